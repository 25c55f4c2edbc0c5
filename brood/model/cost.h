// What one step of one stream costs a model: the numbers that it must read and the operations that it makes,
// from the model's shapes alone. The yardstick beside which measured speed is put.
//
// Counted are the products with weights, each use of a shared weight for itself, and the states; norms,
// activations and the other work that grows with d_model only are left out (below 1 % in all presets).
#pragma once

#include <cstdint>

#include "brood/model/model.h"

namespace brood {

// Shares of neurons awake, where an architecture has them (block.h, Activity); 1: dense.
struct Awake {
  double active = 1, gated = 1;
};
Awake awake(const Activity& activity);  // the means of what was counted; dense when nothing was

struct StepCost {
  double weight_bytes = 0;    // read by a forward step
  double state_bytes = 0;     // read and written by it
  double weights = 0;         // numbers behind weight_bytes
  double flops = 0;           // of a forward step; multiply and add are two
  double backward_flops = 0;  // of its backward: of a product dx = dy·W and dW = dyᵀx
  double head_flops = 0;      // of them the head's: a prompt's steps but the last go without it
  double bytes() const { return weight_bytes + state_bytes; }
};

// Bytes that the state of one stream really holds after so many steps: of a cache of keys and values the rows
// that are in its window.
int64_t held_state_bytes(const Model& model, int64_t position);

// position: steps that the stream has seen (a cache of keys is as long as that, up to its window). Runs one
// recorded step of the model to see which weights are used how often; the model is left as it was.
StepCost step_cost(Model& model, Precision precision, int64_t position = 0, const Awake& awake = {});

// What the cache of a Transformer of that width and depth holds after so many steps, in f32: keys and values of
// `width` numbers a layer each: d_model, or one head's where all heads share them (multi-query).
double attention_cache_bytes(int64_t n_layer, int64_t width, int64_t steps);

}  // namespace brood
