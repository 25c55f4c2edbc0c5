// The recurrence with a diagonal plus rank one transition as its equation reads, in double precision; slow
// and obvious.
#pragma once

#include <cstdint>
#include <vector>

namespace brood::reference {

struct DeltaScan {
  int64_t B, T, H, N, P;
};

// q, k, a, b: [B·T][H·N]; v: [B·T][H·P]; w: [B·T][H·N] or [B·T][H]. S: [B][H][N][P], moved on to the end. y.
inline std::vector<double> delta_scan(const DeltaScan& s, const std::vector<double>& q,
                                      const std::vector<double>& k, const std::vector<double>& v,
                                      const std::vector<double>& w, const std::vector<double>& a,
                                      const std::vector<double>& b, std::vector<double>& S) {
  std::vector<double> y(v.size());
  const bool per_head = int64_t(w.size()) == s.B * s.T * s.H;
  for (int64_t stream = 0; stream < s.B; ++stream) {
    for (int64_t t = 0; t < s.T; ++t) {
      for (int64_t h = 0; h < s.H; ++h) {
        const int64_t row = stream * s.T + t, keys = (row * s.H + h) * s.N;
        double* state = S.data() + (stream * s.H + h) * s.N * s.P;
        for (int64_t p = 0; p < s.P; ++p) {
          const int64_t value = (row * s.H + h) * s.P + p;
          double sa = 0;
          for (int64_t n = 0; n < s.N; ++n) sa += state[n * s.P + p] * a[keys + n];
          for (int64_t n = 0; n < s.N; ++n) {
            const double decay = per_head ? w[row * s.H + h] : w[keys + n];
            double& at = state[n * s.P + p];
            at = decay * at + b[keys + n] * sa + k[keys + n] * v[value];
            y[value] += at * q[keys + n];
          }
        }
      }
    }
  }
  return y;
}

}  // namespace brood::reference
