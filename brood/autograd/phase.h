// Rotary positions that the stream decides (Mamba-3), on the tape: kernels/phase.h has the equations.
#pragma once

#include "brood/autograd/ops.h"

namespace brood {

// The sums, in turns, of ½·rate·delta over the stream: [rows, heads·n] for rate [rows, n], delta [rows, heads];
// state [B, heads·n].
Var phases(Tape& tape, Var rate, Var delta, const Chunk& chunk, StateVar& state);

// Each head's x + bias, its first pairs turned by phase: [rows, heads·N] for x [rows, groups·N], which may be a
// view, bias [heads, N], phase [rows, heads·n].
Var phase_rotary(Tape& tape, Var x, Parameter& bias, Var phase, int64_t heads, int64_t groups);

}  // namespace brood
