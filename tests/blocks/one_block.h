// A mixer alone, run on random rows, for tests against its equations in double precision.
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
  OneBlock(const std::string& mixer, nlohmann::json config, int64_t d_model) : d_model_(d_model) {
    Settings settings(std::move(config), "config");
    Random random(5);
    for (const Part& part : mixers())
      if (part.name == mixer)
        block_ = part.make(settings, Place{0, 1, d_model, 1, "", 1e-5f, shared_}, store_, random);
    settings.finish();
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
    std::vector<StateVar> state;
    for (const StateSpec& spec : block_->state()) {
      Var memory = tape.leaf(tape.arena().zeros(spec.shape.size()), 1, spec.shape.size());
      state.push_back({memory, memory});
    }
    BlockContext context{
        .tape = tape, .chunk = chunk, .state = state, .activity = nullptr, .dropout_seed = 0};
    Floats copy = x;
    Var y = block_->forward(context, tape.leaf(copy.data(), T, d_model_));
    return Numbers(y.value(), y.value() + y.size());
  }

 private:
  const int64_t d_model_;
  ParameterStore store_;
  std::shared_ptr<void> shared_;
  std::unique_ptr<Block> block_;
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
