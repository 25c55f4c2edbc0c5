#include "brood/learn/comparison_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "brood/base/error.h"
#include "brood/base/hash.h"
#include "brood/base/json.h"
#include "brood/base/threads.h"
#include "brood/kernels/machine.h"
#include "brood/learn/comparison_claims.h"

namespace brood {
namespace {

using nlohmann::json;
using Status = ComparedModel::Status;

constexpr std::array<std::pair<Status, const char*>, 5> kStatuses{{{Status::kWaiting, "waiting"},
                                                                   {Status::kTraining, "training"},
                                                                   {Status::kTrained, "trained"},
                                                                   {Status::kFinished, "finished"},
                                                                   {Status::kDiverged, "diverged"}}};

const char* name_of(Status status) {
  return std::find_if(kStatuses.begin(), kStatuses.end(), [&](const auto& s) { return s.first == status; })
      ->second;
}

const char* name_of(Schedule::Shape shape) {
  switch (shape) {
    case Schedule::Shape::kConstant:
      return "constant";
    case Schedule::Shape::kCosine:
      return "cosine";
    case Schedule::Shape::kLinear:
      return "linear";
  }
  return "";
}

std::string hash_text(std::span<const uint8_t> bytes) {
  return fmt::format("{:016x}", content_hash(std::as_bytes(bytes)));
}

template <class T>
json or_null(const std::optional<T>& value) {
  return value ? json(*value) : json();
}

json model_json(const ComparedModel& model, std::optional<double> loss) {
  json curve = json::array(), contexts = json::array();
  for (const CurvePoint& point : model.curve) curve.push_back({point.seconds, point.bytes, point.bits});
  for (const ContextMeasure& at : model.contexts) {
    contexts.push_back({{"context", at.context},
                        {"prefill_bytes_per_second", at.read},
                        {"decode_bytes_per_second", at.write},
                        {"state_bytes", at.state_bytes}});
  }
  const bool diverged = model.status == Status::kDiverged;
  return {{"name", model.name},
          {"source", model.source},
          {"config", model.config},
          {"weights", model.weights},
          {"parameters", model.parameters},
          {"weight_bytes", model.weight_bytes()},
          {"status", name_of(model.status)},
          {"diverged_at_step", diverged ? json(model.diverged_at) : json()},
          {"steps", model.steps},
          {"bytes", model.bytes},
          {"seconds", model.seconds},
          {"train_bytes_per_second", or_null(model.train_rate)},
          {"bits_per_byte", or_null(model.bits_per_byte)},
          {"seconds_to_loss", loss && model.trained() ? or_null(model.seconds_to(*loss)) : json()},
          {"peak_memory_bytes", or_null(model.peak_memory)},
          {"awake", or_null(model.awake)},
          {"curve", std::move(curve)},
          {"contexts", std::move(contexts)}};
}

// One model of a kept comparison, read with suspicion.
class KeptModel {
 public:
  KeptModel(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) fail("compare: {} lists a model that is none", where_);
  }

  const json& at(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() ? kNone : *found;
  }
  double number(const json& value, const char* key) const {
    if (!value.is_number() || !(value.get<double>() >= 0)) refuse(key);
    return value.get<double>();
  }
  int64_t whole(const json& value, const char* key) const {
    constexpr int64_t kMost = int64_t(1) << 60;
    if (!value.is_number_integer() || value < 0 || value > kMost) refuse(key);
    return value.get<int64_t>();
  }
  std::optional<double> maybe_number(const char* key) const {
    return at(key).is_null() ? std::nullopt : std::optional(number(at(key), key));
  }
  const json& list(const char* key) const {
    if (!at(key).is_array()) refuse(key);
    return at(key);
  }
  [[noreturn]] void refuse(const char* key) const {
    fail("compare: {} says of {} a \"{}\" that cannot be, {}; start over with --overwrite", where_,
         shown(at("name")), key, shown(at(key)));
  }

 private:
  static inline const json kNone;
  const json& object_;
  const std::string where_;
};

Status read_status(const KeptModel& kept) {
  for (const auto& [status, name] : kStatuses)
    if (kept.at("status") == name) return status;
  kept.refuse("status");
}

std::vector<CurvePoint> read_curve(const KeptModel& kept) {
  std::vector<CurvePoint> curve;
  for (const json& point : kept.list("curve")) {
    if (!point.is_array() || point.size() != 3) kept.refuse("curve");
    curve.push_back(
        {kept.number(point[0], "curve"), kept.whole(point[1], "curve"), kept.number(point[2], "curve")});
    if (curve.size() > 1 && curve[curve.size() - 2].bytes >= curve.back().bytes) kept.refuse("curve");
  }
  if (!curve.empty() && curve[0].bytes == 0) kept.refuse("curve");
  return curve;
}

std::vector<ContextMeasure> read_contexts(const KeptModel& kept) {
  std::vector<ContextMeasure> contexts;
  for (const json& at : kept.list("contexts")) {
    const KeptModel one(at, "a context");
    contexts.push_back({kept.whole(one.at("context"), "contexts"),
                        kept.number(one.at("prefill_bytes_per_second"), "contexts"),
                        kept.number(one.at("decode_bytes_per_second"), "contexts"),
                        kept.whole(one.at("state_bytes"), "contexts")});
  }
  return contexts;
}

void read_results(ComparedModel& model, const KeptModel& kept) {
  model.status = read_status(kept);
  if (model.status == Status::kDiverged)
    model.diverged_at = kept.whole(kept.at("diverged_at_step"), "diverged_at_step");
  model.steps = kept.whole(kept.at("steps"), "steps");
  model.bytes = kept.whole(kept.at("bytes"), "bytes");
  model.seconds = kept.number(kept.at("seconds"), "seconds");
  model.train_rate = kept.maybe_number("train_bytes_per_second");
  model.bits_per_byte = kept.maybe_number("bits_per_byte");
  model.awake = kept.maybe_number("awake");
  if (!kept.at("peak_memory_bytes").is_null())
    model.peak_memory = kept.whole(kept.at("peak_memory_bytes"), "peak_memory_bytes");
  model.curve = read_curve(kept);
  model.contexts = read_contexts(kept);
}

[[noreturn]] void fail_differs(const std::string& where, const std::string& what, const json& theirs,
                               const json& ours) {
  fail(
      "compare: the comparison in {} was begun with {} {}, not {}; give the same, or start over with "
      "--overwrite",
      where, what, theirs.is_null() ? "none" : shown(theirs), ours.is_null() ? "none" : shown(ours));
}

// The first key in which two objects differ is told; `of` says whose it is.
void check_same(const json& theirs, const json& ours, const std::string& where, const std::string& of) {
  json all = theirs;
  all.update(ours);
  for (const auto& [key, unused] : all.items()) {
    const json their = theirs.value(key, json()), our = ours.value(key, json());
    if (their != our) fail_differs(where, fmt::format("\"{}\"{}", key, of), their, our);
  }
}

json names_in(const json& models) {
  json names = json::array();
  for (const json& model : models) names.push_back(model.is_object() ? model.value("name", json()) : json());
  return names;
}

}  // namespace

json comparison_conditions(const ComparisonSettings& settings, const ComparisonTexts& texts) {
  json conditions = {{"trained", settings.train},
                     {"batch", settings.training.batch},
                     {"context", settings.training.context},
                     {"precision", settings.training.precision == Precision::kBf16 ? "bf16" : "f32"},
                     {"seed", settings.training.seed},
                     {"contexts", settings.contexts},
                     {"long_context", settings.long_context},
                     {"measure_seconds", settings.seconds},
                     {"valid_bytes", texts.valid.size()},
                     {"valid_hash", hash_text(texts.valid)},
                     {"data_bytes", texts.data.size()},
                     {"data_hash", hash_text(texts.data)},
                     {"threads", ThreadPool::instance().size()},
                     {"cpu", kernels::cpu_name()}};
  if (!settings.train) return conditions;
  const TrainerSettings& training = settings.training;
  if (training.seconds > 0) {
    conditions["seconds"] = training.seconds;
  } else {
    conditions["steps"] = training.schedule.total;
  }
  conditions.update({{"carry", training.carry},
                     {"learning_rate", training.schedule.peak},
                     {"final_rate", training.schedule.floor},
                     {"warmup", training.schedule.warmup},
                     {"decay", name_of(training.schedule.shape)},
                     {"weight_decay", training.optimiser.weight_decay},
                     {"beta1", training.optimiser.beta1},
                     {"beta2", training.optimiser.beta2},
                     {"clip", training.optimiser.clip}});
  return conditions;
}

json comparison_json(const Comparison& comparison) {
  const std::optional<double> loss = comparison.loss_in_question();
  json models = json::array(), claims = json::array();
  for (const ComparedModel& model : comparison.models) models.push_back(model_json(model, loss));
  for (const Claim& claim : comparison_claims(comparison)) claims.push_back(claim_json(claim));
  return {{"conditions", comparison.conditions},
          {"loss_bits_per_byte", or_null(loss)},
          {"models", std::move(models)},
          {"claims", std::move(claims)}};
}

void go_on_from(Comparison& comparison, const json& kept, const std::string& where) {
  if (!kept.is_object() || !kept.value("conditions", json()).is_object() ||
      !kept.value("models", json()).is_array())
    fail("compare: what is kept in {} is no comparison; start over with --overwrite", where);
  const json& models = kept["models"];
  json ours = json::array();
  for (const ComparedModel& model : comparison.models) ours.push_back(model.name);
  if (names_in(models) != ours) fail_differs(where, "the models", names_in(models), ours);
  check_same(kept["conditions"], comparison.conditions, where, "");
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    ComparedModel& model = comparison.models[i];
    const KeptModel theirs(models[i], where);
    if (!theirs.at("config").is_object()) theirs.refuse("config");
    check_same(theirs.at("config"), model.config, where, " of " + model.name);
    if (theirs.at("weights") != model.weights)
      fail_differs(where, "weights of " + model.name, theirs.at("weights"), model.weights);
    read_results(model, theirs);
  }
}

}  // namespace brood
