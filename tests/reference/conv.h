// Depthwise causal convolution with a state, slow and obvious, in double precision.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/reference/activation.h"

namespace brood::reference {

struct CausalConv {
  int64_t B, T, C, width;
  bool silu;
  std::vector<double> x;       // [B·T][C]
  std::vector<double> state;   // [B][width−1][C]
  std::vector<double> weight;  // [C][width]
  std::vector<double> bias;    // [C]
};

// The input at step t of stream b: from the state where t is negative.
inline double& conv_input(CausalConv& v, int64_t b, int64_t t, int64_t c) {
  if (t >= 0) return v.x[size_t((b * v.T + t) * v.C + c)];
  return v.state[size_t((b * (v.width - 1) + v.width - 1 + t) * v.C + c)];
}

struct CausalConvResult {
  std::vector<double> y, pre, state;
};

inline CausalConvResult causal_conv(CausalConv v) {
  CausalConvResult result{std::vector<double>(v.x.size()), std::vector<double>(v.x.size()), v.state};
  for (int64_t b = 0; b < v.B; ++b)
    for (int64_t c = 0; c < v.C; ++c) {
      for (int64_t t = 0; t < v.T; ++t) {
        double p = v.bias[size_t(c)];
        for (int64_t j = 0; j < v.width; ++j)
          p += v.weight[size_t(c * v.width + j)] * conv_input(v, b, t - v.width + 1 + j, c);
        const size_t at = size_t((b * v.T + t) * v.C + c);
        result.pre[at] = p;
        result.y[at] = v.silu ? silu(p) : p;
      }
      for (int64_t s = 0; s < v.width - 1; ++s)
        result.state[size_t((b * (v.width - 1) + s) * v.C + c)] = conv_input(v, b, v.T - v.width + 1 + s, c);
    }
  return result;
}

// Gradients of Σ dy·y + Σ dstate·state_out, in the fields of what they are gradients of.
inline CausalConv causal_conv_backward(CausalConv v, const std::vector<double>& dy,
                                       const std::vector<double>& dstate) {
  const CausalConvResult forward = causal_conv(v);
  CausalConv g = v;
  for (auto* part : {&g.x, &g.state, &g.weight, &g.bias}) part->assign(part->size(), 0);
  for (int64_t b = 0; b < v.B; ++b)
    for (int64_t c = 0; c < v.C; ++c) {
      for (int64_t t = 0; t < v.T; ++t) {
        const size_t at = size_t((b * v.T + t) * v.C + c);
        const double dp = dy[at] * (v.silu ? silu_slope(forward.pre[at]) : 1);
        g.bias[size_t(c)] += dp;
        for (int64_t j = 0; j < v.width; ++j) {
          g.weight[size_t(c * v.width + j)] += dp * conv_input(v, b, t - v.width + 1 + j, c);
          conv_input(g, b, t - v.width + 1 + j, c) += dp * v.weight[size_t(c * v.width + j)];
        }
      }
      for (int64_t s = 0; s < v.width - 1; ++s)
        conv_input(g, b, v.T - v.width + 1 + s, c) += dstate[size_t((b * (v.width - 1) + s) * v.C + c)];
    }
  return g;
}

}  // namespace brood::reference
