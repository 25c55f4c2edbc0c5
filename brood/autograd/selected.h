// The second half of a gated feed of rectified neurons, on the tape: only the rows of W_up and W_down that
// belong to neurons awake are touched, forward and backward.
//
//   X = awaken(x)                    autograd/neurons.h: ReLU(x W_gate − threshold), lists or dense
//   y = (X ∘ x W_up) W_down          all three matrices neuron-major, [n, D]
//
// Where X is dense, so is this; both forms give the same numbers up to rounding.
#pragma once

#include "brood/autograd/neurons.h"

namespace brood {

// [rows, D]. X of this very x, not read by anything else.
Var selected_sum(Tape& tape, NeuronSpace& space, const Neurons& X, Var x, Parameter& up, Parameter& down);

}  // namespace brood
