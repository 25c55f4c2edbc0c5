// The two sections of MCSD on the tape: filters of first order whose decays are fixed, one for each channel.
// kernels/channel_decay.h has the equations and says what is published and what is reconstructed.
#pragma once

#include "brood/autograd/ops.h"

namespace brood {

// c_t = decay∘c_{t−1} + v_t. v and the result [rows, C]; decay: C numbers in [0, 1] that outlive the step;
// state [B, C]. Gradients into v and the initial state.
Var decay_section(Tape& tape, Var v, const float* decay, const Chunk& chunk, StateVar& state);

// The mean of the past with weights that fall by e^{−m} a step: n_t / z_t. decay: e^{−m}, C numbers; state
// [B, 2·C], n before z.
Var slope_section(Tape& tape, Var v, const float* decay, const Chunk& chunk, StateVar& state);

}  // namespace brood
