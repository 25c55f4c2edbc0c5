// RWKV-4's average as its definition reads, sums of exponentials in double precision; slow and obvious. Good
// for keys up to some hundreds.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace brood::reference {

struct Wkv4 {
  int64_t B, T, C;
};

// k, v: [B·T][C]; log_w, u: [C]; state: [B][3][C], a, b, p. sums receives both sums behind the last step,
// [B][2][C].
inline std::vector<double> wkv4(const Wkv4& s, const std::vector<double>& k, const std::vector<double>& v,
                                const std::vector<double>& log_w, const std::vector<double>& u,
                                const std::vector<double>& state, std::vector<double>& sums) {
  std::vector<double> y(k.size());
  sums.assign(size_t(s.B * 2 * s.C), 0.0);
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t c = 0; c < s.C; ++c) {
      const double* start = state.data() + b * 3 * s.C + c;
      double& above = sums[b * 2 * s.C + c];
      double& below = sums[b * 2 * s.C + s.C + c];
      above = start[s.C] == 0 ? 0 : std::exp(start[2 * s.C]) * start[0];
      below = start[s.C] == 0 ? 0 : std::exp(start[2 * s.C]) * start[s.C];
      const double fading = std::exp(-std::exp(log_w[c]));
      for (int64_t t = 0; t < s.T; ++t) {
        const int64_t at = (b * s.T + t) * s.C + c;
        const double now = std::exp(u[c] + k[at]);
        y[at] = (above + now * v[at]) / (below + now);
        above = fading * above + std::exp(k[at]) * v[at];
        below = fading * below + std::exp(k[at]);
      }
    }
  }
  return y;
}

}  // namespace brood::reference
