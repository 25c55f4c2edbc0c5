// The gradient of a long pass in the memory of a short one.
//
// A recurrent model read in chunks 1 … C from the state s_0 is the same function as one read at once:
//
//   (s_c, loss_c) = chunk_c(s_{c−1}, weights)          loss = Σ_c loss_c
//
// Backward, from the last chunk to the first, each hands the gradient of its initial state to the one before
// it, where it joins that of the final state:
//
//   ds_{c−1} = ∂loss_c/∂s_{c−1} + (∂s_c/∂s_{c−1})ᵀ ds_c,   ds_C = 0
//
// Only the states between the chunks are kept (they are small); every chunk is computed a second time for its
// backward. Nothing is cut off, other than by truncated backpropagation, where ds_c is taken as 0.
#pragma once

#include <cstdint>
#include <span>

#include "brood/learn/evaluate.h"
#include "brood/model/model.h"

namespace brood {

// Reads tokens[b·T + t], predicting targets[b·T + t] (−1: not scored), `chunk` steps at a time, and adds the
// gradient of the total nats, times `seed`, to that of the parameters (Parameter::gradient). The state moves
// on by T steps. Dropout is on when `training`. Throws Error when the model has states without a gradient
// (model.h, make_state_gradient), and when it has losses of a whole pass (Block::has_pass_losses) and T needs
// several chunks.
Score chunked_backward(Model& model, State& state, std::span<const int32_t> tokens,
                       std::span<const int32_t> targets, int64_t T, int64_t chunk, float seed,
                       const ForwardOptions& options = {});

}  // namespace brood
