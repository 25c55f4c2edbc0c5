// The selective scan written as its equations read, in double precision; slow and obvious.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace brood::reference {

struct SelectiveScan {
  int64_t B, T, C, N;
  bool gate;
  // x, delta, z: [B·T][C]; delta_bias, D: [C]; A: [N][C]; input, output: [B·T][N]; h: [B][N][C]
  std::vector<double> x, delta, delta_bias, A, input, output, D, z, h;
};

struct SelectiveScanResult {
  std::vector<double> y, h;
};

inline SelectiveScanResult selective_scan(const SelectiveScan& s) {
  SelectiveScanResult result{std::vector<double>(s.x.size()), s.h};
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t t = 0; t < s.T; ++t) {
      const int64_t row = b * s.T + t;
      for (int64_t c = 0; c < s.C; ++c) {
        const double raw = s.delta[row * s.C + c] + s.delta_bias[c];
        const double delta = raw > 20 ? raw : std::log1p(std::exp(raw));
        const double x = s.x[row * s.C + c];
        double y = s.D[c] * x;
        for (int64_t n = 0; n < s.N; ++n) {
          double& h = result.h[(b * s.N + n) * s.C + c];
          h = std::exp(delta * s.A[n * s.C + c]) * h + delta * x * s.input[row * s.N + n];
          y += h * s.output[row * s.N + n];
        }
        const double z = s.gate ? s.z[row * s.C + c] : 0;
        result.y[row * s.C + c] = s.gate ? y * z / (1 + std::exp(-z)) : y;
      }
    }
  }
  return result;
}

}  // namespace brood::reference
