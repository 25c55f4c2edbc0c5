// The tape's operation for the recurrence with a diagonal plus rank one transition (RWKV-7, DeltaNet, Gated
// DeltaNet): kernels/delta_scan.h has the equations and says what each input is in which architecture.
#pragma once

#include <cstdint>

#include "brood/autograd/ops.h"

namespace brood {

struct DeltaScanInputs {
  Var q, k, a, b;  // [rows, heads·N]
  Var w;           // [rows, heads·N], or [rows, heads]: one decay for all keys of a head
  Var v;           // [rows, heads·P]
};

// y [rows, heads·P]; state [B, heads·N·P]. Inputs may be views; the same Var may stand in several places.
Var delta_scan(Tape& tape, const DeltaScanInputs& inputs, int64_t heads, const Chunk& chunk, StateVar& state);

}  // namespace brood
