#include "brood/model/cost.h"

#include <algorithm>
#include <string_view>

namespace brood {
namespace {

// The share of a weight that a sparse layer touches: rows of neurons that sleep are not read. Which share it
// is follows from where the weight stands in the equations of blocks/bdh.cc: y is wanted only where x is
// awake, and only what is gated reaches the decoder.
double touched(const Parameter& weight, const Awake& awake) {
  if (weight.sleeps) return awake.active;
  if (weight.name == "encoder_v") return awake.active;
  if (weight.name == "decoder") return awake.gated;
  return 1;
}

// The same backward: a neuron that sleeps has no gradient, nor has its gate where the two do not meet.
double touched_backward(const Parameter& weight, const Awake& awake) {
  if (weight.sleeps) return awake.active;
  if (weight.name == "encoder") return awake.active;
  if (weight.name == "encoder_v" || weight.name == "decoder") return awake.gated;
  return 1;
}

constexpr double kBackward = 2;  // operations of a backward pass, in forward passes

struct Traffic {
  double bytes = 0, flops = 0;
};

// A cache of 2·window rows of which at most window are seen.
bool is_cache(const StateSpec& spec) { return spec.name == "keys" || spec.name == "values"; }
int64_t seen_rows(const StateSpec& cache, int64_t steps) { return std::min(cache.shape[0] / 2, steps); }

Traffic state_traffic(const StateSpec& spec, int64_t position, const Awake& awake) {
  const double numbers = double(spec.shape.size());
  if (spec.name ==
      "synapses") {  // read, and added to, in the rows of neurons of which they or their pair are awake
    const double rows = 1 - (1 - awake.active) * (1 - awake.active);
    return {2 * 4 * numbers * rows, 4 * numbers * rows};
  }
  if (is_cache(spec)) {
    const auto rows = double(seen_rows(spec, position + 1));
    return {4 * rows * double(spec.shape[1]), 2 * rows * double(spec.shape[1])};
  }
  return {2 * 4 * numbers, 4 * numbers};  // a small recurrent state: decayed, added to, read
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
      numbers += is_cache(spec) ? seen_rows(spec, position) * spec.shape[1] : spec.shape.size();
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
    const double numbers = uses * touched(w, awake);
    // A product has made its bf16 copy in the step above; other uses read f32.
    const bool half = precision == Precision::kBf16 && w.half_version == w.version;
    cost.weights += numbers + row;
    cost.weight_bytes += numbers * (half ? 2 : 4) + row * 4;
    cost.flops += 2 * numbers;
    cost.backward_flops += kBackward * 2 * uses * touched_backward(w, awake);
  }
  cost.head_flops = 2 * double(model.frame().vocab_size) * double(model.frame().d_model);
  tape.start(false);  // forgets the recorded uses
  for (const auto& block : model.blocks()) {
    for (const StateSpec& spec : block->state()) {
      const Traffic traffic = state_traffic(spec, position, awake);
      cost.state_bytes += traffic.bytes;
      cost.flops += traffic.flops;
      cost.backward_flops += kBackward * traffic.flops;
    }
  }
  return cost;
}

}  // namespace brood
