// The scalar scan written as its equations read, in double precision; slow and obvious.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace brood::reference {

struct ScalarScan {
  int64_t B, T, heads, groups, P, N;
  // v: [B·T][heads][P]; k, q: [B·T][groups][N]; log_decay, weight, skip: [B·T][heads]; state:
  // [B][heads][N][P]
  std::vector<double> v, k, q, log_decay, weight, skip, state;
};

struct ScalarScanResult {
  std::vector<double> y, state;
};

inline ScalarScanResult scalar_scan(const ScalarScan& s) {
  ScalarScanResult result{std::vector<double>(s.v.size()), s.state};
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t row = b * s.T; row < (b + 1) * s.T; ++row) {
      for (int64_t h = 0; h < s.heads; ++h) {
        const int64_t g = h / (s.heads / s.groups), step = row * s.heads + h;
        for (int64_t p = 0; p < s.P; ++p) {
          double y = s.skip[step] * s.v[step * s.P + p];
          for (int64_t n = 0; n < s.N; ++n) {
            double& state = result.state[((b * s.heads + h) * s.N + n) * s.P + p];
            state = std::exp(s.log_decay[step]) * state +
                    s.weight[step] * s.k[(row * s.groups + g) * s.N + n] * s.v[step * s.P + p];
            y += state * s.q[(row * s.groups + g) * s.N + n];
          }
          result.y[step * s.P + p] = y;
        }
      }
    }
  }
  return result;
}

}  // namespace brood::reference
