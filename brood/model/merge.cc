#include "brood/model/merge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "brood/base/json.h"

namespace brood {

namespace {

// Keys that say how a model learns or is computed, not what it is.
constexpr const char* kFree[] = {"dropout", "sparse", "detach"};
// Keys that add up side by side.
constexpr const char* kWidth[] = {"n_neuron", "parts"};

void check_alike(const nlohmann::json& first, const nlohmann::json& other, size_t number, Merging how) {
  nlohmann::json a = first, b = other;
  for (const char* key : kFree) a.erase(key), b.erase(key);
  if (how == Merging::kSideBySide)
    for (const char* key : kWidth) a.erase(key), b.erase(key);
  for (const auto& [one, two] : {std::pair(&a, &b), std::pair(&b, &a)})
    for (const auto& [key, value] : one->items())
      if (!two->contains(key) || (*two)[key] != value)
        fail("merge: model {} is not like the first: {} is {} in one and {} in the other", number, key,
             shown(value), two->contains(key) ? shown((*two)[key]) : "absent");
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

const Parameter& find(const Model& model, const std::string& name) {
  for (const Parameter& p : model.parameters().all())
    if (p.name == name) return p;
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

nlohmann::json wider_config(std::span<const Model* const> models, int64_t heads) {
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

}  // namespace

std::unique_ptr<Model> merged(std::span<const Model* const> models, Merging how,
                              std::span<const double> weights) {
  if (models.size() < 2) fail("merge: {} models; it takes two or more", models.size());
  const Model& first = *models[0];
  const bool side_by_side = how == Merging::kSideBySide;
  if (side_by_side && first.architecture() != "bdh")
    fail(
        "merge: models of architecture {} have no neurons that could be laid side by side; --average takes "
        "the mean of each number",
        first.architecture());
  for (size_t i = 1; i < models.size(); ++i) check_alike(first.config(), models[i]->config(), i + 1, how);
  const std::vector<double> share = shares(weights, models.size());

  const int64_t heads = side_by_side ? first.config().at("n_head").get<int64_t>() : 0;
  auto model = std::make_unique<Model>(side_by_side ? wider_config(models, heads) : first.config());
  for (Parameter& p : model->parameters().all()) {
    if (side_by_side && of_neurons(p.name))
      lay_side_by_side(models, heads, p);
    else
      average(models, share, p);
    ++p.version;
  }
  return model;
}

}  // namespace brood
