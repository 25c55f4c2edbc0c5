// Normalisations, slow and obvious, in double precision.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace brood::reference {

using Numbers = std::vector<double>;

inline double rms_norm_rstd(int64_t cols, const double* x, double eps) {
  double squares = 0;
  for (int64_t c = 0; c < cols; ++c) squares += x[c] * x[c];
  return 1 / std::sqrt(squares / double(cols) + eps);
}

inline Numbers rms_norm(int64_t cols, const Numbers& x, const Numbers& weight, double eps) {
  Numbers y(x.size());
  for (int64_t at = 0; at < int64_t(x.size()); at += cols) {
    const double r = rms_norm_rstd(cols, x.data() + at, eps);
    for (int64_t c = 0; c < cols; ++c) y[size_t(at + c)] = x[size_t(at + c)] * r * weight[size_t(c)];
  }
  return y;
}

// dx and dweight. ∂(x_i·r)/∂x_j = r·[i = j] − x_i·x_j·r³/cols.
inline void rms_norm_backward(int64_t cols, const Numbers& x, const Numbers& weight, double eps,
                              const Numbers& dy, Numbers& dx, Numbers& dweight) {
  dx.assign(x.size(), 0);
  dweight.assign(size_t(cols), 0);
  for (int64_t at = 0; at < int64_t(x.size()); at += cols) {
    const double* row = x.data() + at;
    const double r = rms_norm_rstd(cols, row, eps);
    for (int64_t i = 0; i < cols; ++i) {
      dweight[size_t(i)] += dy[size_t(at + i)] * row[i] * r;
      const double g = dy[size_t(at + i)] * weight[size_t(i)];
      for (int64_t j = 0; j < cols; ++j)
        dx[size_t(at + j)] += g * ((i == j ? r : 0) - row[i] * row[j] * r * r * r / double(cols));
    }
  }
}

struct Moments {
  double mean, rstd;
};

inline Moments moments(int64_t cols, const double* x, double eps) {
  double mean = 0, variance = 0;
  for (int64_t c = 0; c < cols; ++c) mean += x[c] / double(cols);
  for (int64_t c = 0; c < cols; ++c) variance += (x[c] - mean) * (x[c] - mean) / double(cols);
  return {mean, 1 / std::sqrt(variance + eps)};
}

inline Numbers layer_norm(int64_t cols, const Numbers& x, double eps) {
  Numbers y(x.size());
  for (int64_t at = 0; at < int64_t(x.size()); at += cols) {
    const Moments m = moments(cols, x.data() + at, eps);
    for (int64_t c = 0; c < cols; ++c) y[size_t(at + c)] = (x[size_t(at + c)] - m.mean) * m.rstd;
  }
  return y;
}

// ∂y_i/∂x_j = r·([i = j] − 1/cols − y_i·y_j/cols).
inline Numbers layer_norm_backward(int64_t cols, const Numbers& x, double eps, const Numbers& dy) {
  const Numbers y = layer_norm(cols, x, eps);
  Numbers dx(x.size(), 0);
  for (int64_t at = 0; at < int64_t(x.size()); at += cols) {
    const double r = moments(cols, x.data() + at, eps).rstd;
    for (int64_t i = 0; i < cols; ++i)
      for (int64_t j = 0; j < cols; ++j)
        dx[size_t(at + j)] +=
            dy[size_t(at + i)] * r *
            ((i == j) - 1 / double(cols) - y[size_t(at + i)] * y[size_t(at + j)] / double(cols));
  }
  return dx;
}

}  // namespace brood::reference
