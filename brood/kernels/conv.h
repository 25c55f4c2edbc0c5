// Depthwise causal convolution with a state (Mamba's conv1d), optionally followed by silu:
//
//   p_t = bias + Σ_{j<width} weight[c][j] · x_{t−width+1+j},   y = silu(p) or p
//
// weight[c][width−1] multiplies the newest step. x is [B·T, C] with row stride x_stride (rows b·T + t), y and
// pre are [B·T, C] contiguous. The state is the last width−1 inputs, oldest first: [B][width−1][C].
#pragma once

#include <cstdint>

namespace brood::kernels {

struct CausalConv {
  int64_t B, T, C, width;
  bool silu;
  const float* x;
  int64_t x_stride;
  const float* state_in;  // [B][width−1][C]
  const float* weight;    // [C][width]
  const float* bias;      // [C] or null
};

// pre receives p for backward (may be null). state_out may equal state_in.
void causal_conv_forward(const CausalConv& conv, float* y, float* pre, float* state_out);

// Adds to dx (row stride dx_stride), dweight [C][width], dbias [C], dstate_in; each may be null. dstate_out
// may be null. scratch: causal_conv_scratch() floats.
int64_t causal_conv_scratch(const CausalConv& conv);
void causal_conv_backward(const CausalConv& conv, const float* pre, const float* dy, const float* dstate_out,
                          float* dx, int64_t dx_stride, float* dweight, float* dbias, float* dstate_in,
                          float* scratch);

}  // namespace brood::kernels
