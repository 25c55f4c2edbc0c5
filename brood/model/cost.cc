#include "brood/model/cost.h"

#include <algorithm>

namespace brood {
namespace {

double share(Touched rows, const Awake& awake) {
  switch (rows) {
    case Touched::kAwake:
      return awake.active;
    case Touched::kGated:
      return awake.gated;
    case Touched::kAll:
      break;
  }
  return 1;
}

constexpr double kBackward = 2;  // operations of a backward pass, in forward passes

struct Traffic {
  double bytes = 0, flops = 0;
};

int64_t seen_rows(const StateSpec& cache, int64_t steps) { return std::min(cache.shape[0] / 2, steps); }

Traffic state_traffic(const StateSpec& spec, int64_t position, const Awake& awake) {
  double touched = double(spec.shape.size());
  switch (spec.use) {
    case StateSpec::Use::kCache:  // only read
      touched = double(seen_rows(spec, position + 1) * spec.shape[1]);
      return {4 * touched, 2 * touched};
    case StateSpec::Use::kNeurons:
      touched *= 1 - (1 - awake.active) * (1 - awake.active);
      break;
    case StateSpec::Use::kWhole:
      break;
  }
  return {2 * 4 * touched, 4 * touched};
}

}  // namespace

double attention_cache_bytes(int64_t n_layer, int64_t width, int64_t steps) {
  return 2.0 * double(sizeof(float)) * double(n_layer) * double(width) * double(steps);
}

Awake awake(const Activity& activity) {
  if (activity.samples == 0) return {};
  return {activity.active / double(activity.samples), activity.gated / double(activity.samples)};
}

int64_t held_state_bytes(const Model& model, int64_t position) {
  int64_t numbers = 0;
  for (const auto& block : model.blocks()) {
    for (const StateSpec& spec : block->state()) {
      if (spec.trace) continue;
      numbers +=
          spec.use == StateSpec::Use::kCache ? seen_rows(spec, position) * spec.shape[1] : spec.shape.size();
    }
  }
  return numbers * int64_t(sizeof(float));
}

StepCost step_cost(Model& model, Precision precision, int64_t position, const Awake& awake) {
  Tape tape;
  State state = model.make_state(1);
  const int32_t token = 0;
  tape.start(true, precision);
  model.forward(tape, state, std::span(&token, 1), 1, 1, {.keep_state = false});

  StepCost cost;
  for (const Parameter& w : model.parameters().all()) {
    const bool table =
        w.name ==
        model.frame().embedding_name;  // one row of it is looked up, in f32, beside its use as a head
    const double row = table ? double(model.frame().d_model) : 0;
    const double uses = double(w.size()) * (w.open_uses - (table ? 1 : 0));
    const double numbers = uses * share(w.read, awake);
    // A product has made its bf16 copy in the step above; other uses read f32.
    const bool half = precision == Precision::kBf16 && w.half_version == w.version;
    cost.weights += numbers + row;
    cost.weight_bytes += numbers * (half ? 2 : 4) + row * 4;
    cost.flops += 2 * numbers;
    cost.backward_flops += kBackward * 2 * uses * share(w.learnt, awake);
  }
  cost.head_flops = 2 * double(model.frame().vocab_size) * double(model.frame().d_model);
  tape.start(false);  // forgets the recorded uses
  for (const auto& block : model.blocks()) {
    for (const StateSpec& spec : block->state()) {
      if (spec.trace) continue;
      const Traffic traffic = state_traffic(spec, position, awake);
      cost.state_bytes += traffic.bytes;
      cost.flops += traffic.flops;
      cost.backward_flops += kBackward * traffic.flops;
    }
  }
  return cost;
}

}  // namespace brood
