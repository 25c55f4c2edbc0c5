#include "brood/model/merge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "brood/base/json.h"

namespace brood {

namespace {

// Keys that say how a model learns or is computed, not what it is.
constexpr const char* kFree[] = {"dropout", "sparse", "detach"};
// Keys that add up side by side; those of experts also in feeds that are objects.
constexpr const char* kOfNeurons[] = {"n_neuron", "parts"};
constexpr const char* kOfExperts = "n_expert";

// Where a configuration has a key, at whatever depth: a feed may be an object of its own, and in a list.
std::vector<nlohmann::json::json_pointer> places_of(std::string_view key, const nlohmann::json& config) {
  std::vector<nlohmann::json::json_pointer> places;
  const nlohmann::json flat = config.flatten();
  for (const auto& item : flat.items())
    if (nlohmann::json::json_pointer place(item.key()); place.back() == key)
      places.push_back(std::move(place));
  return places;
}

nlohmann::json comparable(nlohmann::json config, Merging how) {
  for (const char* key : kFree) config.erase(key);
  if (how == Merging::kAverage) return config;
  for (const char* key : kOfNeurons) config.erase(key);
  for (const auto& place : places_of(kOfExperts, config)) config.at(place.parent_pointer()).erase(kOfExperts);
  return config;
}

void check_alike(const nlohmann::json& first, const nlohmann::json& other, size_t number, Merging how) {
  const nlohmann::json a = comparable(first, how), b = comparable(other, how);
  for (const auto& [one, two] : {std::pair(&a, &b), std::pair(&b, &a)})
    for (const auto& [key, value] : one->items())
      if (!two->contains(key) || two->at(key) != value)
        fail("merge: model {} is not like the first: {} is {} in one and {} in the other", number, key,
             shown(value), two->contains(key) ? shown(two->at(key)) : "absent");
}

std::vector<double> shares(std::span<const double> weights, size_t models) {
  std::vector<double> all(weights.begin(), weights.end());
  if (all.empty()) all.assign(models, 1.0);
  if (all.size() != models) fail("merge: {} weights for {} models; give one for each", all.size(), models);
  for (const double w : all)
    if (!(w > 0) || !std::isfinite(w)) fail("merge: a weight is {}, but must be above 0", w);
  const double sum = std::accumulate(all.begin(), all.end(), 0.0);
  for (double& w : all) w /= sum;
  return all;
}

const Parameter* find_or_null(const Model& model, const std::string& name) {
  for (const Parameter& p : model.parameters().all())
    if (p.name == name) return &p;
  return nullptr;
}

const Parameter& find(const Model& model, const std::string& name) {
  if (const Parameter* p = find_or_null(model, name)) return *p;
  fail("merge: a model has no {}", name);
}

void average(std::span<const Model* const> models, std::span<const double> share, Parameter& to) {
  std::vector<const float*> from;
  for (const Model* model : models) {
    const Parameter& p = find(*model, to.name);
    if (p.value.shape() != to.value.shape())
      fail("merge: {} is {} in one model and {} in another", to.name, to.value.shape().text(),
           p.value.shape().text());
    from.push_back(p.value.f32());
  }
  for (int64_t i = 0; i < to.size(); ++i) {
    double mean = 0;
    for (size_t m = 0; m < from.size(); ++m) mean += share[m] * double(from[m][i]);
    to.value.f32()[i] = float(mean);
  }
}

int64_t neurons(const Model& model) { return model.config().at("n_neuron").get<int64_t>(); }

// Rows of neurons, [n, D]: head h of the first model, of the second, ..., then head h + 1.
void lay_side_by_side(std::span<const Model* const> models, int64_t heads, Parameter& to) {
  const int64_t D = to.value.shape()[1];
  float* row = to.value.f32();
  for (int64_t h = 0; h < heads; ++h) {
    for (const Model* model : models) {
      const int64_t size = neurons(*model) / heads * D;
      std::memcpy(row, find(*model, to.name).value.f32() + h * size, size_t(size) * sizeof(float));
      row += size;
    }
  }
}

nlohmann::json config_of_all_neurons(std::span<const Model* const> models, int64_t heads) {
  nlohmann::json config = models[0]->config();
  nlohmann::json parts = nlohmann::json::array();
  int64_t all = 0;
  for (const Model* model : models) {
    const int64_t n = neurons(*model);
    const nlohmann::json own = model->config().value("parts", nlohmann::json::array({n / heads}));
    parts.insert(parts.end(), own.begin(), own.end());
    all += n;
  }
  config["n_neuron"] = all;
  config["parts"] = parts;
  return config;
}

bool of_neurons(const std::string& name) {
  return name == "encoder" || name == "encoder_v" || name == "decoder";
}

// What stands before "experts." in the names of each feed that has experts.
std::vector<std::string> prefixes_of_experts(const Model& model) {
  constexpr std::string_view kFirst = "experts.0.up_proj.weight";
  std::vector<std::string> prefixes;
  for (const Parameter& p : model.parameters().all())
    if (p.name.ends_with(kFirst)) prefixes.push_back(p.name.substr(0, p.name.size() - kFirst.size()));
  return prefixes;
}

// Of a parameter of the new model that is no mean: those whose rows it has, one after the other.
using Sources = std::map<std::string, std::vector<const Parameter*>>;

Sources experts_side_by_side(std::span<const Model* const> models, const std::vector<std::string>& prefixes) {
  Sources sources;
  const auto take = [&](const Model& model, const std::string& from, const std::string& to) {
    if (const Parameter* p = find_or_null(model, from))
      sources[to].push_back(p);  // bias and gate may be none
  };
  for (const std::string& prefix : prefixes) {
    int64_t number = 0;
    for (const Model* model : models) {
      const std::string router = prefix + "gate.weight", bias = prefix + "gate.e_score_correction_bias";
      take(*model, router, router);
      take(*model, bias, bias);
      const int64_t n = find(*model, router).value.shape()[0];
      for (int64_t e = 0; e < n; ++e, ++number)
        for (const char* matrix : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"})
          take(*model, fmt::format("{}experts.{}.{}", prefix, e, matrix),
               fmt::format("{}experts.{}.{}", prefix, number, matrix));
    }
  }
  return sources;
}

void lay_one_after_the_other(const std::vector<const Parameter*>& parts, Parameter& to) {
  float* row = to.value.f32();
  for (const Parameter* part : parts) {
    std::memcpy(row, part->value.f32(), size_t(part->size()) * sizeof(float));
    row += part->size();
  }
  BROOD_ASSERT(row == to.value.f32() + to.size());
}

nlohmann::json config_of_all_experts(std::span<const Model* const> models) {
  nlohmann::json config = models[0]->config();
  for (const auto& place : places_of(kOfExperts, config)) {
    int64_t all = 0;
    for (const Model* model : models) all += model->config().at(place).get<int64_t>();
    config.at(place) = all;
  }
  return config;
}

void check_room_for_more(const Model& first, const std::vector<std::string>& prefixes) {
  if (first.architecture() == "bdh") return;
  if (prefixes.empty())
    fail(
        "merge: models of architecture {} have neither neurons nor experts that could be laid side by side; "
        "--average takes the mean of each number",
        first.architecture());
  for (const auto& place : places_of("router", first.config()))
    if (first.config().at(place) == "softmax")
      fail(
          "merge: experts cannot be laid side by side under router \"softmax\", where each expert's weight "
          "depends on all others; train the models with router \"sigmoid\", or take --average");
}

}  // namespace

std::unique_ptr<Model> merged(std::span<const Model* const> models, Merging how,
                              std::span<const double> weights) {
  if (models.size() < 2) fail("merge: {} models; it takes two or more", models.size());
  const Model& first = *models[0];
  const bool side_by_side = how == Merging::kSideBySide;
  const auto prefixes = side_by_side ? prefixes_of_experts(first) : std::vector<std::string>();
  if (side_by_side) check_room_for_more(first, prefixes);
  for (size_t i = 1; i < models.size(); ++i) check_alike(first.config(), models[i]->config(), i + 1, how);
  const std::vector<double> share = shares(weights, models.size());

  const bool by_neurons = side_by_side && prefixes.empty(), by_experts = !prefixes.empty();
  const int64_t heads = by_neurons ? first.config().at("n_head").get<int64_t>() : 0;
  const Sources experts = experts_side_by_side(models, prefixes);
  auto model = std::make_unique<Model>(by_neurons   ? config_of_all_neurons(models, heads)
                                       : by_experts ? config_of_all_experts(models)
                                                    : first.config());
  for (Parameter& p : model->parameters().all()) {
    if (by_neurons && of_neurons(p.name))
      lay_side_by_side(models, heads, p);
    else if (const auto parts = experts.find(p.name); parts != experts.end())
      lay_one_after_the_other(parts->second, p);
    else
      average(models, share, p);
    ++p.version;
  }
  return model;
}

}  // namespace brood
