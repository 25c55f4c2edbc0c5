// Small Dragon Hatchlings for tests: their configurations, their twins in double precision, streams through them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "brood/model/model.h"
#include "tests/reference/bdh.h"

namespace brood::bdh_models {

struct Config {
  int64_t vocab = 7, D = 6, heads = 2, neurons = 24, layers = 2;
  double decay = 1, threshold = 0, dropout = 0;
  const char* sparse = "auto";
  bool joins = false, detach = false;
  std::vector<int64_t> parts = {};
  nlohmann::json json() const {
    nlohmann::json config = {{"architecture", "bdh"},
                             {"vocab_size", vocab},
                             {"d_model", D},
                             {"n_head", heads},
                             {"n_neuron", neurons},
                             {"n_layer", layers},
                             {"decay", decay},
                             {"threshold", threshold},
                             {"dropout", dropout},
                             {"sparse", sparse},
                             {"residual", joins ? "neurons" : "stream"},
                             {"detach", detach}};
    if (!parts.empty()) config["parts"] = parts;
    return config;
  }
};

// Small models start with weights that let signals through, so that every path matters.
inline void scale_up(Model& model, float stddev) {
  Random random(5);
  for (Parameter& p : model.parameters().all()) random.fill_normal(p.value.f32(), p.size(), stddev);
}

inline std::vector<double> doubles(const Parameter& p) { return {p.value.f32(), p.value.f32() + p.size()}; }

inline reference::Bdh reference_of(Model& model, const Config& c) {
  ParameterStore& store = model.parameters();
  return {.V = c.vocab,
          .D = c.D,
          .H = c.heads,
          .N = c.neurons / c.heads,
          .L = c.layers,
          .decay = c.decay,
          .threshold = c.threshold,
          .embed = doubles(*store.find("embed.weight")),
          .encoder = doubles(*store.find("encoder")),
          .encoder_v = doubles(*store.find("encoder_v")),
          .decoder = doubles(*store.find("decoder")),
          .head = doubles(*store.find("lm_head")),
          .joins = c.joins,
          .parts = c.parts};
}

inline std::vector<int32_t> random_tokens(int64_t n, int64_t vocab, uint64_t seed = 3) {
  Random random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(int32_t(random.below(uint64_t(vocab))));
  return tokens;
}

// Logits of one stream read in chunks of the given lengths.
inline std::vector<float> run(Model& model, State& state, std::span<const int32_t> tokens,
                              const std::vector<int64_t>& chunks, bool recording = false,
                              Precision precision = Precision::kF32) {
  Tape tape;
  std::vector<float> all;
  size_t at = 0;
  for (int64_t T : chunks) {
    tape.start(recording, precision);
    const Var logits = model.forward(tape, state, tokens.subspan(at, size_t(T)), 1, T);
    all.insert(all.end(), logits.value(), logits.value() + logits.size());
    tape.finish();
    at += size_t(T);
  }
  return all;
}

inline std::vector<float> run(Model& model, std::span<const int32_t> tokens,
                              const std::vector<int64_t>& chunks, bool recording = false,
                              Precision precision = Precision::kF32) {
  State state = model.make_state(1);
  return run(model, state, tokens, chunks, recording, precision);
}

template <class A, class B>
inline void expect_close(const A& a, const B& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  double scale = 0, worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_TRUE(std::isfinite(a[i]));
    scale = std::max(scale, std::abs(double(b[i])));
    worst = std::max(worst, std::abs(double(a[i]) - double(b[i])));
  }
  EXPECT_LE(worst, tolerance * scale);
}

// Sums of n floats, each rounded once: errors grow like sqrt(n)·eps through each of a few stages per layer.
constexpr double kClose = 1e-5;

struct Variant {
  int64_t D, heads, neurons, layers;
  double decay, threshold;
};
const Variant kVariants[] = {{6, 2, 24, 2, 1.0, 0.0}, {1, 1, 2, 1, 1.0, 0.0},     {9, 3, 18, 2, 0.9, 0.0},
                             {5, 1, 10, 3, 0.5, 0.1}, {17, 1, 140, 2, 0.98, 0.2}, {33, 4, 264, 1, 1.0, 0.3}};

inline Config config_of(const Variant& v, const char* sparse) {
  return {.D = v.D,
          .heads = v.heads,
          .neurons = v.neurons,
          .layers = v.layers,
          .decay = v.decay,
          .threshold = v.threshold,
          .sparse = sparse};
}

}  // namespace brood::bdh_models
