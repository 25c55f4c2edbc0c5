// What may stand around a delta scan, as operations of the tape: kernels/delta_rule.h has the equations.
#pragma once

#include <cstdint>

#include "brood/autograd/ops.h"

namespace brood {

// exp(−e^{−1/2}·σ(z + bias)), z [rows, C] contiguous, bias [C].
Var bounded_decay(Tape& tape, Var z, Parameter& bias);

// k and a [rows, C], which need gradients; k_k and k_a [C]. Each [rows, C], views of one matrix.
struct DeltaKeyVars {
  Var key, erased, replaced;  // k∘(1 + (a − 1)∘k_a), −κ and κ∘a
};
DeltaKeyVars delta_keys(Tape& tape, Var k, Var a, Parameter& k_k, Parameter& k_a, int64_t heads);

// o + (Σ_head r∘k∘r_k)·v, all [rows, C] and in need of gradients; r_k of size C.
Var step_bonus(Tape& tape, Var o, Var r, Var k, Var v, Parameter& r_k, int64_t heads);

}  // namespace brood
