// The matrix scan with one decay a head, on the tape: the mixer of Mamba-2, Mamba-3, retention and linear
// attention. kernels/scalar_scan.h has the equations and says where they come from.
//
//   S_t = e^{g_t} S_{t−1} + w_t k_t v_tᵀ          y_t = S_tᵀ q_t + d_t v_t
//
// A block of Mamba-2, with dt = softplus(…) and g = dt·A made before:
//
//   ScalarScanInputs in{.v = x, .k = B, .q = C, .log_decay = g, .weight = dt, .skip = as_row(tape, D)};
//   Var y = scalar_scan(tape, in, heads, groups, chunk, state.ssm);
#pragma once

#include "brood/autograd/ops.h"

namespace brood {

// Rows are b·T + t; any may be a view of columns. Var() where a weight is 1 or a skip 0.
struct ScalarScanInputs {
  Var v;                       // [rows, heads·P]
  Var k, q;                    // [rows, groups·N]; head h reads those of group h / (heads / groups)
  Var log_decay;               // g <= 0: [rows, heads], or [1, heads] for all steps
  Var weight = {}, skip = {};  // the same
};

// [rows, heads·P]; state [B, heads·N·P], values innermost. Gradients into every input and the initial state.
Var scalar_scan(Tape& tape, const ScalarScanInputs& in, int64_t heads, int64_t groups, const Chunk& chunk,
                StateVar& state);

// A parameter as an input of one row, [1, size].
Var as_row(Tape& tape, Parameter& parameter);

}  // namespace brood
