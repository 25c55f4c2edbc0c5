// A tiny random model of every architecture, for tests that all of them must pass.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "brood/base/random.h"
#include "brood/model/model.h"

namespace brood::testing {

struct TinyModel {
  const char* name;
  const char* json;
};

inline const std::vector<TinyModel>& tiny_models() {
  static const std::vector<TinyModel> all = {
      {"bdh", R"({"architecture":"bdh","vocab_size":17,"d_model":16,"n_layer":2,"n_head":2,"n_neuron":64})"},
      {"bdh_decay",
       R"({"architecture":"bdh","vocab_size":17,"d_model":16,"n_layer":2,"n_head":2,"n_neuron":64,"decay":0.9})"},
      {"bdh_joined",
       R"({"architecture":"bdh","vocab_size":17,"d_model":16,"n_layer":2,"n_head":2,"n_neuron":64,"decay":0.9,"residual":"neurons"})"},
      {"gated_deltanet",
       R"({"architecture":"gated_deltanet","vocab_size":17,"d_model":12,"n_layer":2,"n_head":2,"head_dim":5,"feed":"none","allow_neg_eigval":true})"},
      {"mamba", R"({"architecture":"mamba","vocab_size":17,"d_model":12,"n_layer":2,"d_state":5})"},
      {"hybrid",
       R"({"architecture":"stack","vocab_size":17,"d_model":12,"n_layer":2,"mixer":[{"type":"attention","n_head":2,"window":96},"mamba"],"feed":["swiglu","none"],"d_state":5})"},
      {"mamba2",
       R"({"architecture":"mamba2","vocab_size":17,"d_model":12,"n_layer":2,"d_state":5,"head_dim":4,"n_groups":2})"},
      {"mamba3",
       R"({"architecture":"mamba3","vocab_size":17,"d_model":12,"n_layer":2,"d_state":6,"head_dim":4,"n_groups":2})"},
      {"mcsd",
       R"({"architecture":"mcsd","vocab_size":17,"d_model":12,"n_layer":2,"n_channel":4,"feed":"none"})"},
      {"mingru", R"({"architecture":"mingru","vocab_size":17,"d_model":12,"n_layer":2,"feed":"none"})"},
      {"retention",
       R"({"architecture":"retention","vocab_size":17,"d_model":12,"n_layer":2,"n_head":2,"feed":"relu2"})"},
      {"rwkv4", R"({"architecture":"rwkv4","vocab_size":17,"d_model":12,"n_layer":2,"d_ff":20})"},
      {"rwkv7",
       R"({"architecture":"rwkv7","vocab_size":17,"d_model":12,"n_layer":3,"head_dim":6,"d_ff":20,"decay_low_rank_dim":3,"a_low_rank_dim":3,"v_low_rank_dim":2,"gate_low_rank_dim":4})"},
      {"s4d", R"({"architecture":"s4d","vocab_size":17,"d_model":12,"n_layer":2,"d_state":6})"},
      {"s4d_legs",
       R"({"architecture":"s4d","vocab_size":17,"d_model":12,"n_layer":2,"d_state":8,"init":"legs","discretisation":"bilinear"})"},
      {"selected",
       R"({"architecture":"retention","vocab_size":17,"d_model":12,"n_layer":2,"n_head":2,"feed":"selected","d_ff":32})"},
      // Experts so few that every one is chosen in every test, and not by near ties, which a finite difference
      // would turn over.
      {"switch_shared",
       R"({"architecture":"retention","vocab_size":17,"d_model":12,"n_layer":2,"n_head":2,"feed":"switch","n_expert":2,"n_shared_expert":1,"d_expert":16})"},
      {"switch_softmax",
       R"({"architecture":"retention","vocab_size":17,"d_model":12,"n_layer":2,"n_head":2,"feed":"switch","n_expert":3,"top_k":2,"d_expert":16,"router":"softmax"})"},
      {"transformer",
       R"({"architecture":"transformer","vocab_size":17,"d_model":16,"n_layer":2,"n_head":2,"window":96})"},
      {"transformer_parallel",
       R"({"architecture":"transformer","vocab_size":17,"d_model":16,"n_layer":2,"n_head":2,"parallel":true,"window":96})"},
  };
  return all;
}

inline std::vector<int32_t> random_tokens(int64_t n, int64_t vocab, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(int32_t(random.below(uint64_t(vocab))));
  return tokens;
}

// Weights large enough that every part of the model matters; the paper's 0.02 would leave most paths near
// zero.
inline void enlarge(Model& model, float factor = 4.0f) {
  for (Parameter& p : model.parameters().all()) {
    if (p.scan || !p.decays) continue;
    double squares = 0;
    for (int64_t i = 0; i < p.size(); ++i) squares += double(p.value.f32()[i]) * double(p.value.f32()[i]);
    // Whatever an architecture begins with, no map is so small beside another that its gradient drowns in the
    // rounding of finite differences.
    const double rms = std::sqrt(squares / double(p.size()));
    const double least = 1 / std::sqrt(double(p.value.shape()[p.value.shape().rank() - 1]));
    const float scale = rms > 0 ? std::max(factor, float(least / rms)) : 1.0f;
    for (int64_t i = 0; i < p.size(); ++i) p.value.f32()[i] *= scale;
    // What stands before a map that begins at zero would have no gradient.
    if (rms == 0) Random(uint64_t(p.size())).fill_normal(p.value.f32(), p.size(), float(least));
    ++p.version;
  }
}

// Logits of a stream read in chunks of the given lengths, carrying the state.
inline std::vector<float> logits_in_chunks(Model& model, const std::vector<int32_t>& tokens,
                                           const std::vector<int64_t>& lengths) {
  State state = model.make_state(1);
  Tape tape;
  std::vector<float> all;
  size_t at = 0;
  for (int64_t length : lengths) {
    tape.start(false);
    Var logits = model.forward(tape, state, std::span(tokens).subspan(at, size_t(length)), 1, length);
    all.insert(all.end(), logits.value(), logits.value() + logits.size());
    at += size_t(length);
  }
  return all;
}

class EveryArchitecture : public ::testing::TestWithParam<TinyModel> {};
inline std::string tiny_name(const ::testing::TestParamInfo<TinyModel>& info) { return info.param.name; }

}  // namespace brood::testing
