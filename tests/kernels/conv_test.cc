#include "brood/kernels/conv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"
#include "tests/reference/conv.h"

namespace brood::kernels {
namespace {

constexpr int64_t kGap = 3;  // columns between the rows of x and of dx

struct Case {
  int64_t B, T, C, width;
  bool silu;
  Floats x, state, weight, bias, dy, dstate_out;
  Case(int64_t B, int64_t T, int64_t C, int64_t width, bool silu)
      : B(B),
        T(T),
        C(C),
        width(width),
        silu(silu),
        x(normals(B * T * (C + kGap), 1)),
        state(normals(B * (width - 1) * C, 2)),
        weight(normals(C * width, 3)),
        bias(normals(C, 4)),
        dy(normals(B * T * C, 5)),
        dstate_out(normals(B * (width - 1) * C, 6)) {}

  CausalConv conv() const {
    return {B, T, C, width, silu, x.data(), C + kGap, state.data(), weight.data(), bias.data()};
  }
  reference::CausalConv reference() const {
    Numbers dense;
    for (int64_t row = 0; row < B * T; ++row)
      for (int64_t c = 0; c < C; ++c) dense.push_back(double(x[size_t(row * (C + kGap) + c)]));
    return {B, T, C, width, silu, dense, widen(state), widen(weight), widen(bias)};
  }
  std::string name() const {
    return "B " + std::to_string(B) + " T " + std::to_string(T) + " C " + std::to_string(C) + " width " +
           std::to_string(width) + (silu ? " silu" : "");
  }
};

struct Gradients {
  Floats x, weight, bias, state;
  explicit Gradients(const Case& c)
      : x(normals(c.B * c.T * (c.C + kGap), 7)),
        weight(normals(c.C * c.width, 8)),
        bias(normals(c.C, 9)),
        state(normals(c.B * (c.width - 1) * c.C, 10)) {}
};

Floats without_gaps(const Case& c, const Floats& x) {
  Floats dense;
  for (int64_t row = 0; row < c.B * c.T; ++row)
    for (int64_t i = 0; i < c.C; ++i) dense.push_back(x[size_t(row * (c.C + kGap) + i)]);
  return dense;
}

// The same problem with every number made positive and without silu: its sums are the sizes that rounding
// errors of the true ones scale with.
Numbers sizes(Numbers x) {
  for (double& v : x) v = std::abs(v);
  return x;
}
reference::CausalConv sizes(const Case& c) {
  reference::CausalConv v = c.reference();
  for (Numbers* part : {&v.x, &v.state, &v.weight, &v.bias}) *part = sizes(*part);
  v.silu = false;
  return v;
}

// A sum of so many terms, each a product with the slope of silu; |p| stays below 20, and the two terms of the
// slope, each with some 10 roundings, may cancel to that extent.
auto rounding(int64_t terms, const Numbers& size) {
  return [terms, &size](size_t i) { return double(terms + 200) * kRoundoff * (size[i] + 6); };
}

void check_forward(const Case& c, Floats& pre) {
  const reference::CausalConvResult expected = reference::causal_conv(c.reference());
  Floats y(c.dy.size()), state(c.state.size());
  pre.assign(c.dy.size(), 0);
  causal_conv_forward(c.conv(), y.data(), pre.data(), state.data());
  const Numbers size = reference::causal_conv(sizes(c)).y;
  expect_close("y", y, expected.y, rounding(c.width, size));
  expect_close("pre", pre, expected.pre, rounding(c.width, size));
  EXPECT_EQ(widen(state), expected.state);

  Case in_place = c;  // and without pre
  Floats y_alone(y.size());
  causal_conv_forward(in_place.conv(), y_alone.data(), nullptr, in_place.state.data());
  EXPECT_EQ(y_alone, y);
  EXPECT_EQ(in_place.state, state);
}

Gradients run_backward(const Case& c, const Floats& pre) {
  Gradients got(c);
  Floats scratch(size_t(causal_conv_scratch(c.conv())), NAN);
  causal_conv_backward(c.conv(), pre.data(), c.dy.data(), c.dstate_out.data(), got.x.data(), c.C + kGap,
                       got.weight.data(), got.bias.data(), got.state.data(), scratch.data());
  return got;
}

void check_backward(const Case& c, const Floats& pre) {
  const reference::CausalConv expected =
      reference::causal_conv_backward(c.reference(), widen(c.dy), widen(c.dstate_out));
  const Gradients before(c), got = run_backward(c, pre);
  const reference::CausalConv size =
      reference::causal_conv_backward(sizes(c), sizes(widen(c.dy)), sizes(widen(c.dstate_out)));
  const int64_t rows = c.B * c.T;
  expect_close("dx", without_gaps(c, got.x), sum(expected.x, without_gaps(c, before.x)),
               rounding(c.width, size.x));
  expect_close("dstate", got.state, sum(expected.state, before.state), rounding(c.width, size.state));
  expect_close("dweight", got.weight, sum(expected.weight, before.weight), rounding(rows, size.weight));
  expect_close("dbias", got.bias, sum(expected.bias, before.bias), rounding(rows, size.bias));
  for (size_t i = 0; i < got.x.size(); ++i) {
    if (int64_t(i) % (c.C + kGap) < c.C) continue;
    ASSERT_EQ(got.x[i], before.x[i]) << "the gap between rows was touched";
  }
}

void check(const Case& c) {
  SCOPED_TRACE(c.name());
  Floats pre;
  check_forward(c, pre);
  check_backward(c, pre);
}

TEST(Conv, ReferenceGradients) {
  for (int64_t T : {1, 2, 6})
    for (bool silu : {false, true}) {
      const Case c(2, T, 3, 4, silu);
      const Numbers dy = widen(c.dy), dstate = widen(c.dstate_out);
      reference::CausalConv v = c.reference();
      const reference::CausalConv g = reference::causal_conv_backward(v, dy, dstate);
      const auto check_part = [&](const char* name, Numbers reference::CausalConv::*part) {
        expect_gradient(name, v.*part, g.*part, [&](const Numbers& at) {
          reference::CausalConv moved = v;
          moved.*part = at;
          const reference::CausalConvResult result = reference::causal_conv(moved);
          return dot(dy, result.y) + dot(dstate, result.state);
        });
      };
      check_part("dx", &reference::CausalConv::x);
      check_part("dstate", &reference::CausalConv::state);
      check_part("dweight", &reference::CausalConv::weight);
      check_part("dbias", &reference::CausalConv::bias);
    }
}

TEST(Conv, SmallShapes) {
  for_every_target([] {
    for (int64_t width = 1; width <= 6; ++width)
      for (int64_t B = 1; B <= 2; ++B)
        for (int64_t T = 1; T <= 9; ++T)
          for (int64_t C : {1, 2, 3, 5, 8, 15, 16, 17, 35}) {
            check(Case(B, T, C, width, (T + C) % 2 == 0));
            if (testing::Test::HasFatalFailure()) return;
          }
  });
}

TEST(Conv, LongChunks) {
  for_every_target([] {
    for (int64_t T = 15; T <= 36; ++T) check(Case(1, T, 19, 4, true));
    check(Case(3, 100, 200, 4, true));
    check(Case(2, 50, 70, 3, false));
  });
}

TEST(Conv, ChunksFollowOnEachOther) {
  const Case whole(1, 40, 21, 4, true);
  Floats y(whole.dy.size()), state(whole.state.size());
  causal_conv_forward(whole.conv(), y.data(), nullptr, state.data());
  for (int64_t chunk : {1, 2, 3, 7, 16}) {
    Floats got(y.size()), carried = whole.state;
    for (int64_t t = 0; t < whole.T; t += chunk) {
      CausalConv conv = whole.conv();
      conv.T = std::min(chunk, whole.T - t);
      conv.x += t * conv.x_stride;
      conv.state_in = carried.data();
      causal_conv_forward(conv, got.data() + t * whole.C, nullptr, carried.data());
    }
    EXPECT_EQ(got, y) << "chunks of " << chunk;
    EXPECT_EQ(carried, state);
  }
}

TEST(Conv, EachGradientAlone) {
  const Case c(2, 5, 20, 4, true);
  Floats pre(c.dy.size()), y(c.dy.size()), state(c.state.size());
  causal_conv_forward(c.conv(), y.data(), pre.data(), state.data());
  const Gradients all = run_backward(c, pre);
  Gradients alone(c);
  Floats scratch(size_t(causal_conv_scratch(c.conv())));
  const auto run = [&](float* dx, float* dweight, float* dbias, float* dstate) {
    causal_conv_backward(c.conv(), pre.data(), c.dy.data(), c.dstate_out.data(), dx, c.C + kGap, dweight,
                         dbias, dstate, scratch.data());
  };
  run(alone.x.data(), nullptr, nullptr, nullptr);
  run(nullptr, alone.weight.data(), nullptr, nullptr);
  run(nullptr, nullptr, alone.bias.data(), nullptr);
  run(nullptr, nullptr, nullptr, alone.state.data());
  EXPECT_EQ(alone.x, all.x);
  EXPECT_EQ(alone.weight, all.weight);
  EXPECT_EQ(alone.bias, all.bias);
  EXPECT_EQ(alone.state, all.state);
}

TEST(Conv, NoFinalStateGradientIsAZeroOne) {
  Case c(2, 2, 20, 4, true);
  c.dstate_out.assign(c.dstate_out.size(), 0.0f);
  const Floats pre = normals(c.B * c.T * c.C, 11);
  const Gradients zero = run_backward(c, pre);
  Gradients none(c);
  Floats scratch(size_t(causal_conv_scratch(c.conv())));
  causal_conv_backward(c.conv(), pre.data(), c.dy.data(), nullptr, none.x.data(), c.C + kGap,
                       none.weight.data(), none.bias.data(), none.state.data(), scratch.data());
  EXPECT_EQ(none.x, zero.x);
  EXPECT_EQ(none.state, zero.state);
}

TEST(Conv, SameForAnyThreads) {
  const Case c(2, 150, 333, 4, true);
  expect_same_for_threads([&] {
    Floats y(c.dy.size()), pre(c.dy.size()), state(c.state.size());
    causal_conv_forward(c.conv(), y.data(), pre.data(), state.data());
    Gradients g = run_backward(c, pre);
    for (const Floats* part : {&y, &state, &g.weight, &g.bias, &g.state})
      g.x.insert(g.x.end(), part->begin(), part->end());
    return g.x;
  });
}

}  // namespace
}  // namespace brood::kernels
