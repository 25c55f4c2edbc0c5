// Routing row by row in double precision: the slow, obvious version of brood/kernels/routing.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "brood/kernels/routing.h"

namespace brood::reference {

inline std::vector<double> scores(const kernels::Routing& routing, const float* z) {
  std::vector<double> s(size_t(routing.n_expert));
  double sum = 0;
  for (size_t i = 0; i < s.size(); ++i) sum += std::exp(double(z[i]));
  for (size_t i = 0; i < s.size(); ++i)
    s[i] = routing.softmax ? std::exp(double(z[i])) / sum : 1 / (1 + std::exp(-double(z[i])));
  return s;
}

inline std::vector<int32_t> choose(const kernels::Routing& routing, const std::vector<double>& s,
                                   const float* bias) {
  std::vector<int32_t> order(s.size());
  std::iota(order.begin(), order.end(), 0);
  const auto wanted = [&](int32_t i) { return s[size_t(i)] + (bias ? double(bias[i]) : 0.0); };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return wanted(a) > wanted(b); });
  order.resize(size_t(routing.top_k));
  return order;
}

inline std::vector<double> weights(const kernels::Routing& routing, const std::vector<double>& s,
                                   const int32_t* chosen) {
  std::vector<double> w;
  double sum = 0;
  for (int64_t k = 0; k < routing.top_k; ++k) {
    w.push_back(s[size_t(chosen[k])]);
    sum += w.back();
  }
  if (routing.renormalise)
    for (double& x : w) x /= sum;
  return w;
}

// The routing's own losses over all rows. The loads f come from `chosen`: they have no gradient, so finite
// differences keep them.
inline double losses(const kernels::Routing& routing, int64_t rows, const float* z,
                     const std::vector<int32_t>& chosen) {
  const auto n = size_t(routing.n_expert);
  std::vector<double> f(n), P(n);
  double z_loss = 0;
  for (int32_t e : chosen) f[size_t(e)] += 1 / double(chosen.size());
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<double> s = scores(routing, z + r * routing.n_expert);
    const double sum = std::accumulate(s.begin(), s.end(), 0.0);
    double exponentials = 0;
    for (size_t i = 0; i < n; ++i) {
      P[i] += s[i] / sum / double(rows);
      exponentials += std::exp(double(z[r * routing.n_expert + int64_t(i)]));
    }
    z_loss += std::log(exponentials) * std::log(exponentials) / double(rows);
  }
  double balance = 0;
  for (size_t i = 0; i < n; ++i) balance += double(n) * f[i] * P[i];
  return double(routing.balance_loss) * balance + double(routing.z_loss) * z_loss;
}

}  // namespace brood::reference
