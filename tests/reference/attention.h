// Multi-query attention and rotary positions as their equations read, in double precision; slow and obvious.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace brood::reference {

struct Attention {
  int64_t B, T, heads, head_dim, capacity, window;
  std::vector<int64_t> start;
  std::vector<double> q, keys, values;  // [B·T][heads·head_dim], [B][capacity][head_dim] twice
};

struct AttentionResult {
  std::vector<double> y, log_sum;  // like q; [B·T][heads]
};

inline AttentionResult attention(const Attention& a) {
  AttentionResult out{std::vector<double>(a.q.size()), std::vector<double>(size_t(a.B * a.T * a.heads))};
  for (int64_t i = 0; i < a.B * a.T * a.heads; ++i) {
    const int64_t b = i / (a.T * a.heads), t = i / a.heads % a.T;
    const double* q = &a.q[i * a.head_dim];
    const int64_t last = a.start[b] + t, first = std::max<int64_t>(0, last + 1 - a.window);
    std::vector<double> score;
    for (int64_t key = first; key <= last; ++key) {
      double dot = 0;
      for (int64_t j = 0; j < a.head_dim; ++j) dot += q[j] * a.keys[(b * a.capacity + key) * a.head_dim + j];
      score.push_back(dot / std::sqrt(double(a.head_dim)));
    }
    const double most = *std::max_element(score.begin(), score.end());
    double sum = 0;
    for (double s : score) sum += std::exp(s - most);
    out.log_sum[i] = most + std::log(sum);
    for (int64_t key = first; key <= last; ++key) {
      const double p = std::exp(score[key - first] - out.log_sum[i]);
      for (int64_t j = 0; j < a.head_dim; ++j)
        out.y[i * a.head_dim + j] += p * a.values[(b * a.capacity + key) * a.head_dim + j];
    }
  }
  return out;
}

// One head of one row, in place.
inline void rotary(int64_t head_dim, int64_t position, double theta, bool inverse, double* x) {
  for (int64_t i = 0; i < head_dim; i += 2) {
    const double angle =
        (inverse ? -1 : 1) * double(position) * std::pow(theta, -double(i) / double(head_dim));
    const double a = x[i], b = x[i + 1];
    x[i] = a * std::cos(angle) - b * std::sin(angle);
    x[i + 1] = a * std::sin(angle) + b * std::cos(angle);
  }
}

}  // namespace brood::reference
