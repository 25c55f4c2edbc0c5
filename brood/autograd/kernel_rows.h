// Vars and their gradients as kernels take them.
#pragma once

#include "brood/autograd/tape.h"
#include "brood/kernels/rows.h"

namespace brood {

inline kernels::ConstRows rows_of(Var x) { return {x.value(), x.stride()}; }

// Where backward may add to the gradient of x: null when x needs none, or there is no x.
inline float* gradient_or_null(Tape& tape, Var x) {
  return x && x.needs_gradient() ? tape.gradient(x) : nullptr;
}
inline kernels::Rows gradient_rows(Tape& tape, Var x) { return {gradient_or_null(tape, x), x.stride()}; }

}  // namespace brood
