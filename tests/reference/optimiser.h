// Parameter updates, slow and obvious, in double precision.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "brood/kernels/optimiser.h"

namespace brood::reference {

// One number's AdamW step.
inline void adamw(const kernels::AdamW& step, double g, double& w, double& m, double& v) {
  const double beta1 = step.beta1, beta2 = step.beta2;
  m = beta1 * m + (1 - beta1) * g;
  v = beta2 * v + (1 - beta2) * g * g;
  const double direction = m * step.correct1 / (std::sqrt(v * step.correct2) + step.eps);
  w -= step.lr * (direction + step.decay * w);
}

inline void sgd(double lr, double decay, double g, double& w) { w -= lr * (g + decay * w); }

// y = x Wᵀ; x [T, in], weight [out, in].
struct Linear {
  int64_t T, out, in;
  std::vector<double> x, weight;
};

inline std::vector<double> linear(const Linear& v) {
  std::vector<double> y(size_t(v.T * v.out), 0);
  for (int64_t t = 0; t < v.T; ++t)
    for (int64_t o = 0; o < v.out; ++o)
      for (int64_t i = 0; i < v.in; ++i)
        y[size_t(t * v.out + o)] += v.x[size_t(t * v.in + i)] * v.weight[size_t(o * v.in + i)];
  return y;
}

// Gradients of Σ dy·y, in the fields of what they are gradients of.
inline Linear linear_backward(const Linear& v, const std::vector<double>& dy) {
  Linear g = v;
  g.x.assign(v.x.size(), 0);
  g.weight.assign(v.weight.size(), 0);
  for (int64_t t = 0; t < v.T; ++t)
    for (int64_t o = 0; o < v.out; ++o)
      for (int64_t i = 0; i < v.in; ++i) {
        g.x[size_t(t * v.in + i)] += dy[size_t(t * v.out + o)] * v.weight[size_t(o * v.in + i)];
        g.weight[size_t(o * v.in + i)] += dy[size_t(t * v.out + o)] * v.x[size_t(t * v.in + i)];
      }
  return g;
}

}  // namespace brood::reference
