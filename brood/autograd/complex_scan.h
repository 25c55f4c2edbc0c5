// The tape's operation for the scan of complex modes (S4D): kernels/complex_scan.h has the equations. Its A,
// B and C are Vars, since they come out of a discretisation.
#pragma once

#include <cstdint>

#include "brood/autograd/ops.h"

namespace brood {

// u and y [rows, C], u may be a view; A, input (the paper's B), output (C) [2·N, C] contiguous, row 2n the
// real and row 2n + 1 the imaginary parts of mode n; d [C]; state [B, 2·N·C]. traces, where there are any
// (StateSpec::trace): [B, 4·N·C], kernels/complex_traces.h; the gradients of A and of input reach back through them.
Var complex_scan(Tape& tape, Var u, Var A, Var input, Var output, Parameter& d, const Chunk& chunk,
                 StateVar& state, StateVar* traces = nullptr);

}  // namespace brood
