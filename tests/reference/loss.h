// Softmax cross-entropy, slow and obvious, in double precision.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace brood::reference {

inline double log_sum_exp(const double* x, int64_t n) {
  double top = x[0], sum = 0;
  for (int64_t i = 0; i < n; ++i) top = std::fmax(top, x[i]);
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - top);
  return top + std::log(sum);
}

// One loss per row; 0 where the target is −1.
inline std::vector<double> cross_entropy(int64_t classes, const std::vector<double>& logits,
                                         const std::vector<int32_t>& targets) {
  std::vector<double> loss(targets.size(), 0);
  for (size_t row = 0; row < targets.size(); ++row) {
    const double* x = logits.data() + int64_t(row) * classes;
    if (targets[row] >= 0) loss[row] = log_sum_exp(x, classes) - x[targets[row]];
  }
  return loss;
}

// The gradient of the losses' sum.
inline std::vector<double> cross_entropy_backward(int64_t classes, const std::vector<double>& logits,
                                                  const std::vector<int32_t>& targets) {
  std::vector<double> gradient(logits.size(), 0);
  for (size_t row = 0; row < targets.size(); ++row) {
    if (targets[row] < 0) continue;
    const double* x = logits.data() + int64_t(row) * classes;
    double* g = gradient.data() + int64_t(row) * classes;
    const double log_sum = log_sum_exp(x, classes);
    for (int64_t i = 0; i < classes; ++i) g[i] = std::exp(x[i] - log_sum) - (i == targets[row] ? 1 : 0);
  }
  return gradient;
}

}  // namespace brood::reference
