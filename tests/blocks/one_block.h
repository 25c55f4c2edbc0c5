// A mixer or a feed alone, run on random rows, for tests against its equations in double precision.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "brood/blocks/block.h"
#include "tests/kernels/compare.h"

namespace brood::testing {

class OneBlock {
 public:
  // Of more layers of the kind each sees the same rows, and what comes out is the last one's; the names of their
  // parameters begin with "0.", "1." and so on.
  OneBlock(const std::string& name, nlohmann::json config, int64_t d_model, int64_t layers = 1)
      : d_model_(d_model) {
    Settings settings(std::move(config), "config");
    Random random(5);
    for (const auto* parts : {&mixers(), &feeds()})
      for (const Part& part : *parts)
        for (int64_t layer = 0; part.name == name && layer < layers; ++layer) {
          const std::string prefix = layers == 1 ? "" : fmt::format("{}.", layer);
          blocks_.push_back(part.make(settings, Place{layer, layers, d_model, layers, prefix, 1e-5f, shared_},
                                      store_, random));
        }
    settings.finish();
  }

  // Every number drawn anew, so that nothing is as it begins: maps at zero, or all channels alike.
  void redraw(float stddev) {
    Random random(6);
    for (Parameter& p : store_.all()) {
      random.fill_normal(p.value.f32(), p.size(), stddev);
      ++p.version;
    }
  }

  void change(const std::string& name, int64_t i, float value) {
    Parameter& p = *store_.find(name);
    p.value.f32()[i] = value;
    ++p.version;
  }
  void scale(const std::string& name, float factor) {
    Parameter& p = *store_.find(name);
    for (int64_t i = 0; i < p.size(); ++i) p.value.f32()[i] *= factor;
    ++p.version;
  }
  Numbers numbers(const std::string& name) {
    const Parameter& p = *store_.find(name);
    return Numbers(p.value.f32(), p.value.f32() + p.size());
  }

  // Rows [T, d_model] of one stream from a state of zeros.
  Numbers run(const Floats& x) {
    const int64_t T = int64_t(x.size()) / d_model_;
    Tape tape;
    tape.start(false);
    const int64_t position = 0;
    const Chunk chunk{.B = 1, .T = T, .positions = &position};
    Floats copy = x;
    const Var rows = tape.leaf(copy.data(), T, d_model_);
    Var y;
    for (const auto& block : blocks_) {
      std::vector<StateVar> state;
      for (const StateSpec& spec : block->state()) {
        Var memory = tape.leaf(tape.arena().zeros(spec.shape.size()), 1, spec.shape.size());
        state.push_back({memory, memory});
      }
      BlockContext context{
          .tape = tape, .chunk = chunk, .state = state, .activity = nullptr, .dropout_seed = 0};
      y = block->forward(context, rows);
    }
    return Numbers(y.value(), y.value() + y.size());
  }

 private:
  const int64_t d_model_;
  ParameterStore store_;
  std::shared_ptr<void> shared_;
  std::vector<std::unique_ptr<Block>> blocks_;
};

// W x for one row, W [out, x.size()].
inline Numbers times(const Numbers& W, const double* x, size_t in) {
  Numbers y(W.size() / in);
  for (size_t o = 0; o < y.size(); ++o)
    for (size_t i = 0; i < in; ++i) y[o] += W[o * in + i] * x[i];
  return y;
}

// Within `share` of the largest number.
inline void expect_same(const Numbers& got, const Numbers& expected, double share) {
  ASSERT_EQ(got.size(), expected.size());
  double largest = 0;
  for (double v : expected) largest = std::max(largest, std::abs(v));
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], share * largest) << i;
}

}  // namespace brood::testing
