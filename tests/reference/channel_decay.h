// The filters of MCSD's sections as sums over the whole past, in double precision; slow and obvious.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace brood::reference {

struct ChannelDecay {
  int64_t B, T, C;
  bool slope;
  // v: [B·T][C]; decay: [C]; state: [B][C], with slope [B][2][C]
  std::vector<double> v, decay, state;
};

struct ChannelDecayResult {
  std::vector<double> c, state;
};

// n_t = a^{t+1} n + Σ_{j<=t} a^{t−j} v_j, and z_t the same of ones.
inline ChannelDecayResult channel_decay(const ChannelDecay& s) {
  ChannelDecayResult result{std::vector<double>(s.v.size()), s.state};
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t c = 0; c < s.C; ++c) {
      double* state = result.state.data() + b * s.C * (s.slope ? 2 : 1) + c;
      const double n_in = state[0], z_in = s.slope ? state[s.C] : 0;
      for (int64_t t = 0; t < s.T; ++t) {
        double n = std::pow(s.decay[c], double(t + 1)) * n_in, z = std::pow(s.decay[c], double(t + 1)) * z_in;
        for (int64_t j = 0; j <= t; ++j) {
          n += std::pow(s.decay[c], double(t - j)) * s.v[(b * s.T + j) * s.C + c];
          z += std::pow(s.decay[c], double(t - j));
        }
        result.c[(b * s.T + t) * s.C + c] = s.slope ? n / z : n;
        state[0] = n;
        if (s.slope) state[s.C] = z;
      }
    }
  }
  return result;
}

}  // namespace brood::reference
