// The traces of the selective scan as their equations read, in double precision; slow and obvious.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/reference/selective_scan.h"

namespace brood::reference {

// low: [B·T][rank]; traces: [B][2 + rank][N][C], moved on to the end. The scan's own h stays.
inline void selective_traces(const SelectiveScan& s, int64_t rank, const std::vector<double>& low,
                             std::vector<double>& traces) {
  std::vector<double> states = s.h;
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t row = b * s.T; row < (b + 1) * s.T; ++row) {
      for (int64_t c = 0; c < s.C; ++c) {
        const double raw = s.delta[row * s.C + c] + s.delta_bias[c], x = s.x[row * s.C + c];
        const double delta = std::log1p(std::exp(raw)), slope = 1 / (1 + std::exp(-raw));
        for (int64_t n = 0; n < s.N; ++n) {
          double& h = states[(b * s.N + n) * s.C + c];
          const double A = s.A[n * s.C + c], decay = std::exp(delta * A), in = x * s.input[row * s.N + n];
          const double by_delta = slope * (A * decay * h + in);
          for (int64_t k = 0; k < 2 + rank; ++k) {
            double& e = traces[((b * (2 + rank) + k) * s.N + n) * s.C + c];
            const double gain = k == 0   ? delta * decay * h
                                : k == 1 ? by_delta
                                         : by_delta * low[row * rank + k - 2];
            e = decay * e + gain;
          }
          h = decay * h + delta * in;
        }
      }
    }
  }
}

}  // namespace brood::reference
