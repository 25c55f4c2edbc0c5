// What may stand around a delta scan, slow and obvious, in double precision (kernels/delta_rule.h).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace brood::reference {

using Numbers = std::vector<double>;

inline Numbers bounded_decay(int64_t cols, const Numbers& z, const Numbers& bias) {
  Numbers w(z.size());
  for (size_t i = 0; i < z.size(); ++i)
    w[i] = std::exp(-std::exp(-0.5) / (1 + std::exp(-(z[i] + bias[i % size_t(cols)]))));
  return w;
}

struct DeltaRuleKeys {
  Numbers key, erased, replaced;
};

// k and a [rows, heads·N] without gaps.
inline DeltaRuleKeys delta_keys(int64_t heads, int64_t N, const Numbers& k, const Numbers& a,
                                const Numbers& k_k, const Numbers& k_a) {
  DeltaRuleKeys out{Numbers(k.size()), Numbers(k.size()), Numbers(k.size())};
  const auto C = size_t(heads * N);
  for (size_t head = 0; head < k.size(); head += size_t(N)) {
    double squares = 0;
    for (size_t i = head; i < head + size_t(N); ++i) squares += k[i] * k_k[i % C] * k[i] * k_k[i % C];
    const double length = std::max(std::sqrt(squares), 1e-12);
    for (size_t i = head; i < head + size_t(N); ++i) {
      const double direction = k[i] * k_k[i % C] / length;
      out.key[i] = k[i] * (1 + (a[i] - 1) * k_a[i % C]);
      out.erased[i] = -direction;
      out.replaced[i] = direction * a[i];
    }
  }
  return out;
}

inline Numbers step_bonus(int64_t heads, int64_t N, const Numbers& o, const Numbers& r, const Numbers& k,
                          const Numbers& v, const Numbers& r_k) {
  Numbers y(o.size());
  const auto C = size_t(heads * N);
  for (size_t head = 0; head < o.size(); head += size_t(N)) {
    double s = 0;
    for (size_t i = head; i < head + size_t(N); ++i) s += r[i] * k[i] * r_k[i % C];
    for (size_t i = head; i < head + size_t(N); ++i) y[i] = o[i] + s * v[i];
  }
  return y;
}

}  // namespace brood::reference
