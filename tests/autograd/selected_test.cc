// A gated feed of selected neurons: lists, all of them and dense products give what a loop gives, and the
// gradients of it; a choice of the strongest keeps exactly as many.
#include "brood/autograd/selected.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/autograd/inputs.h"
#include "tests/kernels/compare.h"

namespace brood {
namespace {

using testing::as_input;
using testing::weigh;

constexpr Sparsity kForms[] = {Sparsity::kAuto, Sparsity::kAlways, Sparsity::kNever};

struct Feed {
  Feed(int64_t rows_, int64_t n_, int64_t d_, float threshold_ = 0, int64_t most_ = 0)
      : rows(rows_), n(n_), d(d_), threshold(threshold_), most(most_), space(1, std::span(&n_, 1), d_) {}

  Parameter& random(const char* name, int64_t out, int64_t in, float stddev) {
    Parameter& p = store.add(name, {out, in});
    draw.fill_normal(p.value.f32(), p.size(), stddev);
    return p;
  }

  Var forward(Tape& tape, Sparsity sparsity, int64_t* awake = nullptr) {
    space.begin_layer(tape);
    const Var in = as_input(tape, x);
    const Neurons X = awaken(tape, space, in, gate, threshold, sparsity, most);
    if (awake) *awake = X.awake;
    return selected_sum(tape, space, X, in, up, down);
  }

  static double product(const Parameter& a, int64_t row, const Parameter& b, int64_t other) {
    const int64_t cols = a.value.shape()[1];
    double sum = 0;
    for (int64_t i = 0; i < cols; ++i)
      sum += double(a.value.f32()[row * cols + i]) * double(b.value.f32()[other * cols + i]);
    return sum;
  }

  std::vector<double> gates(int64_t r) const {
    std::vector<double> g;
    for (int64_t j = 0; j < n; ++j) g.push_back(std::max(product(x, r, gate, j) - double(threshold), 0.0));
    std::vector<double> order = g;
    std::sort(order.begin(), order.end(), std::greater<>());
    if (most > 0 && most < n)
      for (double& v : g)
        if (v < order[size_t(most) - 1]) v = 0;
    return g;
  }

  // Draws rows again until none has a neuron near the edge of being chosen, so that finite differences change no
  // choice.
  void choose_clearly(double margin) {
    for (int64_t r = 0; most > 0 && r < rows; ++r)
      for (;;) {
        std::vector<double> order;
        for (int64_t j = 0; j < n; ++j) order.push_back(product(x, r, gate, j));
        std::sort(order.begin(), order.end(), std::greater<>());
        if (order[size_t(most) - 1] - order[size_t(most)] > margin) break;
        draw.fill_normal(x.value.f32() + r * d, d, 1.0f);
      }
  }

  std::vector<double> row_by_row() const {
    std::vector<double> y(size_t(rows * d), 0.0);
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<double> g = gates(r);
      for (int64_t j = 0; j < n; ++j)
        for (int64_t i = 0; i < d; ++i)
          y[size_t(r * d + i)] += g[size_t(j)] * product(x, r, up, j) * double(down.value.f32()[j * d + i]);
    }
    return y;
  }

  const int64_t rows, n, d;
  const float threshold;
  const int64_t most;
  ParameterStore store;
  Random draw{5};
  NeuronSpace space;
  Parameter& x = random("x", rows, d, 1.0f);
  Parameter& gate = random("gate", n, d, 1.0f / std::sqrt(float(d)));
  Parameter& up = random("up", n, d, 1.0f / std::sqrt(float(d)));
  Parameter& down = random("down", n, d, 1.0f / std::sqrt(float(n)));
};

TEST(Selected, EveryFormEqualsALoop) {
  for (int64_t rows : {1, 3, 6, 50})
    for (int64_t n : {2, 30, 64, 400})
      for (float threshold : {0.0f, 1.2f, 100.0f})
        for (int64_t most : {int64_t(0), int64_t(1), n / 4}) {
          Feed feed(rows, n, 12, threshold, most);
          const std::vector<double> expected = feed.row_by_row();
          double largest = 1e-9;
          for (double v : expected) largest = std::max(largest, std::abs(v));
          for (Sparsity form : kForms)
            for (bool recording : {false, true}) {
              Tape tape;
              tape.start(recording);
              const Var y = feed.forward(tape, form);
              for (size_t i = 0; i < expected.size(); ++i)
                ASSERT_NEAR(y.value()[i], expected[i], 1e-5 * largest)
                    << rows << " rows, " << n << " neurons, threshold " << threshold << ", most " << most;
            }
        }
}

TEST(Selected, KeepsAsManyAsAreWanted) {
  for (int64_t rows : {1, 9}) {
    Feed feed(rows, 200, 16, 0, 20);
    for (Sparsity form : kForms) {
      Tape tape;
      tape.start(false);
      int64_t awake = 0;
      feed.forward(tape, form, &awake);
      EXPECT_EQ(awake, rows * 20);
    }
  }
}

// Equals, all of them awake: the first in order are kept.
TEST(Selected, OfEqualsTheFirstAreKept) {
  for (int64_t rows : {1, 9})
    for (Sparsity form : kForms) {
      Feed feed(rows, 200, 16, 0, 20), first(rows, 20, 16);
      for (float& v : std::span(feed.x.value.f32(), size_t(feed.x.size()))) v = std::abs(v);
      std::fill_n(feed.gate.value.f32(), feed.gate.size(), 0.25f);
      std::copy_n(feed.x.value.f32(), feed.x.size(), first.x.value.f32());
      std::copy_n(feed.gate.value.f32(), first.gate.size(), first.gate.value.f32());
      std::copy_n(feed.up.value.f32(), first.up.size(), first.up.value.f32());
      std::copy_n(feed.down.value.f32(), first.down.size(), first.down.value.f32());
      Tape tape;
      tape.start(false);
      int64_t awake = 0;
      const Var y = feed.forward(tape, form, &awake);
      EXPECT_EQ(awake, rows * 20);
      const std::vector<double> expected = first.row_by_row();
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(y.value()[i], expected[i], 1e-4);
    }
}

TEST(Selected, EveryGradient) {
  for (int64_t rows : {2, 20})
    for (int64_t most : {0, 25})
      for (Sparsity form : kForms) {
        Feed feed(rows, 96, 12, most ? 0.0f : 0.3f, most);
        feed.choose_clearly(0.05);
        testing::expect_gradients(
            feed.store, [&](Tape& tape) { return weigh(tape, feed.forward(tape, form), 3); }, 1e-2);
      }
}

TEST(Selected, HalfPrecisionIsNear) {
  for (int64_t rows : {1, 20})
    for (Sparsity form : kForms) {
      Feed feed(rows, 128, 32);
      const std::vector<double> expected = feed.row_by_row();
      double largest = 0;
      for (double v : expected) largest = std::max(largest, std::abs(v));
      Tape tape;
      tape.start(true, Precision::kBf16);
      const Var y = feed.forward(tape, form);
      for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(y.value()[i], expected[i], largest / 64);
      tape.backward(weigh(tape, y, 3));
      EXPECT_TRUE(feed.up.gradient_open);
    }
}

TEST(Selected, ThreadsDoNotChangeABit) {
  for (const int64_t rows : {1, 300})
    for (const int64_t most : {0, 64})
      for (const Sparsity form : {Sparsity::kAlways, Sparsity::kNever})
        for (const Precision precision : {Precision::kF32, Precision::kBf16})
          for (const bool recording : {true, false}) {
            SCOPED_TRACE(::testing::Message()
                         << rows << " rows, at most " << most << ", lists " << (form == Sparsity::kAlways)
                         << ", bf16 " << (precision == Precision::kBf16) << ", recording " << recording);
            expect_same_for_threads([&] {
              Feed feed(rows, rows == 1 ? 8192 : 1024, 64, 0.5f, most);
              Tape tape;
              tape.start(recording, precision);
              const Var y = feed.forward(tape, form);
              return testing::with_gradients(tape, y, feed.store);
            });
          }
}

}  // namespace
}  // namespace brood
