// Mamba-3's recurrence, head by head and step by step, as its equations read; in double precision.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace brood::reference {

struct Mamba3 {
  int64_t B, T, heads, groups, N, P, n;  // n pairs of each key turn
};

// One head's key: x + bias, its first pairs turned by phase (in turns).
inline std::vector<double> turned_key(const Mamba3& s, const double* x, const double* bias,
                                      const double* phase) {
  std::vector<double> y(static_cast<size_t>(s.N));
  for (int64_t i = 0; i < s.N; ++i) y[size_t(i)] = x[i] + bias[i];
  for (int64_t i = 0; i < s.n; ++i) {
    const double angle = 2 * std::acos(-1.0) * phase[i], a = y[size_t(2 * i)], b = y[size_t(2 * i + 1)];
    y[size_t(2 * i)] = a * std::cos(angle) - b * std::sin(angle);
    y[size_t(2 * i + 1)] = a * std::sin(angle) + b * std::cos(angle);
  }
  return y;
}

struct Mamba3Inputs {
  const std::vector<double>&v, &b, &c;                  // [B·T][H·P], [B·T][G·N] twice
  const std::vector<double>&b_bias, &c_bias;            // [H][N]
  const std::vector<double>&log_decay, &delta, &share;  // [B·T][H]
  const std::vector<double>& rate;                      // [B·T][n]
  const std::vector<double>& skip;                      // [H]
};
struct Mamba3State {
  std::vector<double> phase, memory, key, value;  // [B][H][n], [B][H][N][P], [B][H][N], [B][H][P]
};

// y; the state moves on.
inline std::vector<double> mamba3(const Mamba3& s, const Mamba3Inputs& in, Mamba3State& state) {
  std::vector<double> y(in.v.size());
  for (int64_t stream = 0; stream < s.B; ++stream)
    for (int64_t t = 0; t < s.T; ++t)
      for (int64_t h = 0; h < s.heads; ++h) {
        const int64_t row = stream * s.T + t, at = row * s.heads + h, head = stream * s.heads + h;
        const int64_t group = row * s.groups + h / (s.heads / s.groups);
        const double dt = in.delta[size_t(at)], share = in.share[size_t(at)];
        double* phase = state.phase.data() + head * s.n;
        for (int64_t i = 0; i < s.n; ++i) {
          phase[i] += in.rate[size_t(row * s.n + i)] * dt / 2;
          phase[i] -= std::round(phase[i]);
        }
        const auto k = turned_key(s, in.b.data() + group * s.N, in.b_bias.data() + h * s.N, phase);
        const auto q = turned_key(s, in.c.data() + group * s.N, in.c_bias.data() + h * s.N, phase);
        const double* v = in.v.data() + at * s.P;
        double *S = state.memory.data() + head * s.N * s.P, *k_last = state.key.data() + head * s.N,
               *v_last = state.value.data() + head * s.P;
        const double alpha = std::exp(in.log_decay[size_t(at)]);
        for (int64_t p = 0; p < s.P; ++p) {
          y[size_t(at * s.P + p)] = in.skip[size_t(h)] * v[p];
          for (int64_t n = 0; n < s.N; ++n) {
            double& number = S[n * s.P + p];
            number = alpha * number + (1 - share) * dt * alpha * k_last[n] * v_last[p] +
                     share * dt * k[size_t(n)] * v[p];
            y[size_t(at * s.P + p)] += number * q[size_t(n)];
          }
        }
        for (int64_t n = 0; n < s.N; ++n) k_last[n] = k[size_t(n)];
        for (int64_t p = 0; p < s.P; ++p) v_last[p] = v[p];
      }
  return y;
}

}  // namespace brood::reference
