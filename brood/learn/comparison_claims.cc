#include "brood/learn/comparison_claims.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "brood/base/chart.h"
#include "brood/base/progress.h"

namespace brood {
namespace {

using Verdict = Claim::Verdict;

constexpr int64_t kMillion = 1'000'000;
constexpr int64_t kShort = 1024;     // bytes of context up to which a Transformer is said to be faster
constexpr double kEven = 0.8;        // of the speed at the shortest context; less is no constant cost
constexpr double kFewAwake = 0.055;  // is still about 5 %

struct Finding {
  Verdict verdict = Verdict::kNotMeasured;
  std::string measured;
};
using Ratios = std::vector<std::pair<int64_t, double>>;  // context and times as much

std::string times(double ratio) { return short_number(ratio) + "×"; }

// What holds everywhere, somewhere or nowhere, with the figures.
Finding at_contexts(const Ratios& ratios, double least, const char* whose = "") {
  if (ratios.empty()) return {Verdict::kNotMeasured, "no context in common"};
  std::string text;
  size_t good = 0;
  for (const auto& [context, ratio] : ratios) {
    text += fmt::format("{}{} at {}", text.empty() ? whose : ", ", times(ratio), context_text(context));
    good += ratio >= least;
  }
  return {good == ratios.size() ? Verdict::kHolds
          : good > 0            ? Verdict::kInPart
                                : Verdict::kDoesNotHold,
          text};
}

// `of` above / below at every context that both have.
Ratios ratios(const ComparedModel& above, const ComparedModel& below,
              const std::function<double(const ComparedModel&, const ContextMeasure&)>& of) {
  Ratios result;
  for (const ContextMeasure& a : above.contexts)
    for (const ContextMeasure& b : below.contexts)
      if (a.context == b.context && of(below, b) > 0)
        result.emplace_back(a.context, of(above, a) / of(below, b));
  return result;
}

double read_speed(const ComparedModel&, const ContextMeasure& at) { return at.read; }
double write_speed(const ComparedModel&, const ContextMeasure& at) { return at.write; }
double held_bytes(const ComparedModel& model, const ContextMeasure& at) {
  return double(model.weight_bytes() + at.state_bytes);
}

Finding five_times_writing(const ComparedModel& model, const ComparedModel& transformer) {
  return at_contexts(ratios(model, transformer, write_speed), 5);
}
Finding five_times_reading(const ComparedModel& model, const ComparedModel& transformer) {
  return at_contexts(ratios(model, transformer, read_speed), 5);
}
Finding three_times_less_memory(const ComparedModel& model, const ComparedModel& transformer) {
  return at_contexts(ratios(transformer, model, held_bytes), 3, "the Transformer's are ");
}

// By the time to one loss, as it was claimed: that which the Transformer ended with.
Finding seven_times_training(const ComparedModel& model, const ComparedModel& transformer) {
  if (model.curve.empty() || transformer.curve.empty()) return {Verdict::kNotMeasured, "nothing was trained"};
  const double loss = transformer.curve.back().bits;
  const auto theirs = transformer.seconds_to(loss), ours = model.seconds_to(loss);
  if (!ours) {
    return {Verdict::kDoesNotHold,
            fmt::format("it never reached the {:.3f} bits per byte of the Transformer", loss)};
  }
  const double ratio = *theirs / *ours;
  return {ratio >= 7 ? Verdict::kHolds : Verdict::kDoesNotHold,
          fmt::format("{}: {} to {:.3f} bits per byte, the Transformer {}", times(ratio),
                      duration_text(*ours), loss, duration_text(*theirs))};
}

Finding transformer_is_faster_when_short(const ComparedModel& model, const ComparedModel& transformer) {
  Ratios all = ratios(transformer, model, write_speed);
  std::erase_if(all, [](const auto& at) { return at.first > kShort; });
  if (all.empty()) return {Verdict::kNotMeasured, "no context as short as that"};
  return at_contexts(all, 1, "the Transformer writes ");
}

// In a state that does not grow and at a speed that does not fall. What is remembered over such a distance is
// another question (docs/tasks.md).
Finding a_million_bytes(const ComparedModel& model) {
  if (model.contexts.size() < 2) return {Verdict::kNotMeasured, "fewer than two contexts"};
  const ContextMeasure &first = model.contexts.front(), &last = model.contexts.back(),
                       &before = model.contexts[model.contexts.size() - 2];
  if (last.state_bytes > before.state_bytes) {
    return {Verdict::kDoesNotHold,
            fmt::format("its state grows with the context: {} at {}", bytes_text(double(last.state_bytes)),
                        context_text(last.context))};
  }
  if (last.context < kMillion) return {Verdict::kNotMeasured, "no context as long as that"};
  return {last.write >= kEven * first.write ? Verdict::kHolds : Verdict::kDoesNotHold,
          fmt::format("at {} its state is {} as at {}, and it writes at {} its speed at {}",
                      context_text(last.context), bytes_text(double(last.state_bytes)),
                      context_text(before.context), times(last.write / first.write),
                      context_text(first.context))};
}

Finding few_awake(const ComparedModel& model) {
  if (!model.awake)
    return {Verdict::kDoesNotHold, "it has no neurons that sleep: all of it works at every byte"};
  return {*model.awake <= kFewAwake ? Verdict::kHolds : Verdict::kDoesNotHold,
          fmt::format("{:.1f} % awake", 100 * *model.awake)};
}

struct AgainstTransformer {
  const char* claim;
  Finding (*find)(const ComparedModel& model, const ComparedModel& transformer);
};
constexpr AgainstTransformer kAgainst[] = {
    {"5× the inference throughput: writing", five_times_writing},
    {"5× the inference throughput: reading", five_times_reading},
    {"7× the training efficiency", seven_times_training},
    {"a third of the memory: weights and state", three_times_less_memory},
    {"a Transformer writes faster below about 1,000 bytes", transformer_is_faster_when_short},
};
struct Alone {
  const char* claim;
  Finding (*find)(const ComparedModel& model);
};
constexpr Alone kAlone[] = {
    {"a context of a million", a_million_bytes},
    {"about 5 % of the neurons awake", few_awake},
};

// The Transformer as everybody knows it: its feed is dense, and it looks back at all of the past.
bool is_baseline(const ComparedModel& model) {
  const nlohmann::json none, &config = model.config, feed = config.value("feed", none),
                             window = config.value("window", none);
  return config.value("architecture", none) == "transformer" && (feed == "swiglu" || feed == "relu2") &&
         window.is_number_integer() && window >= kWholePast;
}

bool is_finished(const ComparedModel& model) { return model.status == ComparedModel::Status::kFinished; }

double size_ratio(const ComparedModel& a, const ComparedModel& b) {
  const auto [less, more] = std::minmax(a.parameters, b.parameters);
  return double(more) / double(std::max<int64_t>(less, 1));
}

// Null where there is none.
const ComparedModel* nearest_baseline(const Comparison& comparison, const ComparedModel& model) {
  const ComparedModel* nearest = nullptr;
  for (const ComparedModel& other : comparison.models) {
    if (!is_baseline(other) || !is_finished(other)) continue;
    if (!nearest || size_ratio(other, model) < size_ratio(*nearest, model)) nearest = &other;
  }
  return nearest;
}

Claim held_against(const AgainstTransformer& claim, const ComparedModel& model,
                   const ComparedModel& transformer) {
  Finding finding;
  if (size_ratio(model, transformer) > kSameSize) {
    finding.measured =
        fmt::format("not the same size: {} parameters, the Transformer {}",
                    short_number(double(model.parameters)), short_number(double(transformer.parameters)));
  } else {
    finding = claim.find(model, transformer);
  }
  return {claim.claim, model.name, transformer.name, finding.verdict, finding.measured};
}

}  // namespace

const char* verdict_text(Verdict verdict) {
  switch (verdict) {
    case Verdict::kHolds:
      return "holds";
    case Verdict::kInPart:
      return "holds in part";
    case Verdict::kDoesNotHold:
      return "does not hold";
    case Verdict::kNotMeasured:
      return "not measured";
  }
  return "";
}

std::vector<Claim> comparison_claims(const Comparison& comparison) {
  std::vector<const ComparedModel*> models;
  for (const ComparedModel& model : comparison.models)
    if (is_finished(model) && !is_baseline(model)) models.push_back(&model);
  std::vector<Claim> claims;
  for (const AgainstTransformer& claim : kAgainst)
    for (const ComparedModel* model : models)
      if (const ComparedModel* transformer = nearest_baseline(comparison, *model))
        claims.push_back(held_against(claim, *model, *transformer));
  for (const Alone& claim : kAlone) {
    for (const ComparedModel* model : models) {
      const Finding finding = claim.find(*model);
      claims.push_back({claim.claim, model->name, "", finding.verdict, finding.measured});
    }
  }
  return claims;
}

nlohmann::json claim_json(const Claim& claim) {
  return {{"claim", claim.claim},
          {"model", claim.model},
          {"against", claim.against.empty() ? nlohmann::json() : nlohmann::json(claim.against)},
          {"verdict", verdict_text(claim.verdict)},
          {"measured", claim.measured}};
}

std::string context_text(int64_t bytes) {
  constexpr int64_t kKilo = 1024, kMega = kKilo * kKilo;
  if (bytes % kMega == 0) return fmt::format("{}M", bytes / kMega);
  if (bytes % kKilo == 0) return fmt::format("{}k", bytes / kKilo);
  return fmt::format("{}", bytes);
}

}  // namespace brood
