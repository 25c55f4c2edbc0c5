// Reference: Dragon Hatchling as the recurrence of the paper, token by token, in double precision, with every
// synapse a number and nothing skipped. Slow and obvious on purpose.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace brood::reference {

struct Bdh {
  int64_t V, D, H, N, L;
  double decay = 1, threshold = 0;
  // Neuron-major: row h·N + j is neuron j of head h. embed, head: [V, D].
  std::vector<double> embed, encoder, encoder_v, decoder, head;

  bool joins = false;          // X adds up over the layers, the stream does not
  std::vector<int64_t> parts;  // of a head, with frequencies of their own; empty: one

  // All that was ever written to synapses, in order: noted, or put in the place of what would be written, so
  // that the past is a constant.
  struct Writes {
    std::vector<double> values;
    size_t next = 0;
    bool replayed = false;
    double pass(double value) {
      if (replayed) return values[next++];
      values.push_back(value);
      return value;
    }
  };
  Writes* writes = nullptr;
  double written(double value) const { return writes ? writes->pass(value) : value; }

  // Turns a step of neuron j of a head: 1/2π for the first pair of a part.
  double frequency(int64_t j) const {
    int64_t width = N;
    for (const int64_t part : parts) {
      width = part;
      if (j < part) break;
      j -= part;
    }
    return std::pow(65536.0, -double(j / 2 * 2) / double(width)) / (2 * std::numbers::pi);
  }

  // Synapses [L][H·N][D] and the position: a stream's state.
  struct State {
    std::vector<double> rho;
    int64_t position = 0;
  };
  State start() const { return {std::vector<double>(size_t(L * H * N * D), 0.0), 0}; }

  static std::vector<double> layer_norm(const std::vector<double>& z) {
    double mean = 0, variance = 0;
    for (double v : z) mean += v / double(z.size());
    for (double v : z) variance += (v - mean) * (v - mean) / double(z.size());
    std::vector<double> y;
    for (double v : z) y.push_back((v - mean) / std::sqrt(variance + 1e-5));
    return y;
  }

  std::vector<double> step(State& state, int32_t token) const {
    std::vector<double> x(embed.begin() + token * D, embed.begin() + (token + 1) * D);
    x = layer_norm(x);
    std::vector<double> sum(size_t(H * N), 0.0);  // of X over the layers
    for (int64_t l = 0; l < L; ++l) {
      std::vector<double> y(size_t(D), 0.0);
      for (int64_t h = 0; h < H; ++h) {
        double* rho = state.rho.data() + (l * H + h) * N * D;
        const auto dot = [&](const std::vector<double>& w, int64_t j, const std::vector<double>& v) {
          double sum = 0;
          for (int64_t c = 0; c < D; ++c) sum += w[size_t((h * N + j) * D + c)] * v[size_t(c)];
          return sum;
        };
        std::vector<double> X(static_cast<size_t>(N)), R(static_cast<size_t>(N)), a(size_t(D), 0.0);
        for (int64_t j = 0; j < N; ++j) {
          double& before = sum[size_t(h * N + j)];
          X[size_t(j)] = (joins ? before : 0.0) + std::max(0.0, dot(encoder, j, x) - threshold);
          before = X[size_t(j)];
        }
        for (int64_t j = 0; j < N; j += 2) {
          const double whole = double(state.position) * frequency(j);
          const double angle = 2 * std::numbers::pi * (whole - std::floor(whole));
          const double c = std::cos(angle), s = std::sin(angle);
          R[size_t(j)] = X[size_t(j)] * c - X[size_t(j + 1)] * s;
          R[size_t(j + 1)] = X[size_t(j + 1)] * c + X[size_t(j)] * s;
        }
        for (int64_t j = 0; j < N; ++j)
          for (int64_t c = 0; c < D; ++c) a[size_t(c)] += R[size_t(j)] * rho[j * D + c];
        for (int64_t j = 0; j < N; ++j) R[size_t(j)] = written(R[size_t(j)]);
        std::vector<double> kept;
        for (const double v : x) kept.push_back(written(v));
        for (int64_t j = 0; j < N; ++j)
          for (int64_t c = 0; c < D; ++c)
            rho[j * D + c] = decay * (rho[j * D + c] + R[size_t(j)] * kept[size_t(c)]);
        a = layer_norm(a);
        for (int64_t j = 0; j < N; ++j) {
          const double z = X[size_t(j)] * std::max(0.0, dot(encoder_v, j, a));
          for (int64_t c = 0; c < D; ++c) y[size_t(c)] += z * decoder[size_t((h * N + j) * D + c)];
        }
      }
      y = layer_norm(y);
      if (joins) {
        x = y;
        continue;
      }
      for (int64_t c = 0; c < D; ++c) x[size_t(c)] += y[size_t(c)];
      x = layer_norm(x);
    }
    ++state.position;
    std::vector<double> logits(size_t(V), 0.0);
    for (int64_t v = 0; v < V; ++v)
      for (int64_t c = 0; c < D; ++c) logits[size_t(v)] += x[size_t(c)] * head[size_t(v * D + c)];
    return logits;
  }

  std::vector<double> logits(State& state, const std::vector<int32_t>& tokens) const {
    std::vector<double> all;
    for (int32_t token : tokens)
      for (double v : step(state, token)) all.push_back(v);
    return all;
  }

  // Σ of the cross-entropies in nats, tokens[t] predicting targets[t], from a copy of the state.
  double loss(State state, const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets) const {
    double sum = 0;
    for (size_t t = 0; t < tokens.size(); ++t) {
      const std::vector<double> z = step(state, tokens[t]);
      double total = 0;
      for (double v : z) total += std::exp(v);
      sum += std::log(total) - z[size_t(targets[t])];
    }
    return sum;
  }
};

}  // namespace brood::reference
