// The tape's operation for RWKV-4's weighted average: kernels/wkv4.h has the equations.
#pragma once

#include <cstdint>

#include "brood/autograd/ops.h"

namespace brood {

// k, v and y [rows, C], k and v may be views; log_w and u [C], the time_decay and time_first of checkpoints;
// state [B, 3·C], zero where nothing has been seen. Of the final state's gradient the part of p is not read:
// see the kernel.
Var wkv4(Tape& tape, Var k, Var v, Parameter& log_w, Parameter& u, const Chunk& chunk, StateVar& state);

}  // namespace brood
