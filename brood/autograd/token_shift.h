// The token shift of RWKV (Peng and others 2023): each step is mixed, channel by channel, with the one before.
#pragma once

#include <cstdint>

#include "brood/autograd/ops.h"

namespace brood {

// x one step earlier: row b·T + t of the result is row b·T + t − 1 of x, and for t = 0 the state. state [B, d]:
// the last x of each stream. Gradients into x and the initial state.
Var token_shift(Tape& tape, Var x, const Chunk& chunk, StateVar& state);

// From x to z by a share of each channel, x + (z − x)∘share, share [cols]; or of each number, share as x.
Var lerp(Tape& tape, Var x, Var z, Parameter& share);
Var lerp(Tape& tape, Var x, Var z, Var share);

}  // namespace brood
