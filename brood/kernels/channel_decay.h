// First-order filters with a fixed decay a for each channel: the two sections of MCSD as reconstructed from
// its public description (RockAI 2024, arXiv 2406.12230, whose formulas we have not seen).
//
//   decay section   c_t = a c_{t−1} + v_t                            a = γ, as in retention
//   slope section   n_t = a n_{t−1} + v_t,  z_t = a z_{t−1} + 1,  c_t = n_t / z_t           a = e^{−m}
//
// The slope section is a causal softmax whose logits fall linearly with the distance (ALiBi without content,
// Press et al. 2021); its z is the sum of the weights. z follows from the number of steps seen, too, but it
// is a state: so a state says everything by itself and may be cut off, moved or begun anywhere, positions
// need not be known, and no power is ever computed.
//
// Rows are b·T + t. States are [B][C], for the slope section [B][2][C], n before z; all zero at the start of
// a stream. Work is split over streams and blocks of channels. Every number comes from its own channel's past
// alone, step by step, so neither cuts nor threads change a bit.
#pragma once

#include <cstdint>

namespace brood::kernels {

struct ChannelDecay {
  int64_t B, T, C;
  const float* v;  // [B·T, C]
  int64_t v_stride;
  const float* decay;  // a, [C], in [0, 1]
  bool slope;          // divide by z
  const float* state_in;
};

// c [B·T, C] contiguous. kept [B·T, C]: 1/z_t for backward; slope section only, may be null (not recording).
// state_out may equal state_in.
void channel_decay_forward(const ChannelDecay& scan, float* c, float* state_out, float* kept);

// Adds to dv (row stride dv_stride) and to dstate_in; either may be null. c, kept: from forward, read in the
// slope section. dstate_out: gradient of the final state, or null.
void channel_decay_backward(const ChannelDecay& scan, const float* c, const float* kept, const float* dc,
                            const float* dstate_out, float* dv, int64_t dv_stride, float* dstate_in);

}  // namespace brood::kernels
