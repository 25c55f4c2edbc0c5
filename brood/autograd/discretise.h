// The tape's operation from the parameters of a continuous diagonal state space to what complex_scan takes:
// kernels/discretise.h has the equations.
#pragma once

#include "brood/autograd/ops.h"
#include "brood/kernels/discretise.h"

namespace brood {

using kernels::Discretisation;

struct DiscreteModes {
  Var A, input;  // [2·N, C]: of each mode a row of real and one of imaginary parts
};

// log_dt [1, C]; log_real, imag [N, C]. All contiguous.
DiscreteModes discretise(Tape& tape, Var log_dt, Var log_real, Var imag, Discretisation method);

// A parameter of shape [r, ...], seen as the matrix [r, c], turned: [c, r].
Var turned(Tape& tape, Parameter& parameter);

}  // namespace brood
