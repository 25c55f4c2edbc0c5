#include "brood/kernels/optimiser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"
#include "tests/reference/optimiser.h"

namespace brood::kernels {
namespace {

AdamW adamw_step(int t) {
  AdamW step{0.01f, 0.9f, 0.999f, 1e-8f, 0.1f, 0, 0};
  step.correct1 = float(1 / (1 - std::pow(0.9, t)));
  step.correct2 = float(1 / (1 - std::pow(0.999, t)));
  return step;
}

Floats squares(Floats x) {
  for (float& v : x) v *= v;
  return x;
}

// The direction m/(sqrt(v) + eps) is good to 8 units in the last place of its parts, among them m, in whose
// sum terms may cancel: m_size is the sum of their sizes.
double direction_size(const AdamW& step, double m_size, double v) {
  return m_size * step.correct1 / (std::sqrt(v * step.correct2) + step.eps);
}
double adamw_bound(const AdamW& step, double w, double m_size, double v, double extra_roundings = 0) {
  return kRoundoff * (4 * std::abs(w) + (32 + extra_roundings) * step.lr * direction_size(step, m_size, v));
}

void check_adamw(int64_t n, float grad_scale) {
  const AdamW step = adamw_step(3);
  const Floats g = normals(n, 1), w = normals(n, 2), m = normals(n, 3), v = squares(normals(n, 4));
  Floats got_w = w, got_m = m, got_v = v;
  std::vector<Bf16> copy(static_cast<size_t>(n));
  adamw(n, step, g.data(), grad_scale, got_w.data(), got_m.data(), got_v.data(), copy.data());
  Numbers w_true = widen(w), m_true = widen(m), v_true = widen(v);
  for (size_t i = 0; i < g.size(); ++i)
    reference::adamw(step, double(g[i]) * double(grad_scale), w_true[i], m_true[i], v_true[i]);
  const auto m_size = [&](size_t i) {
    return std::abs(double(m[i])) + std::abs(double(g[i]) * double(grad_scale));
  };
  expect_close("m", got_m, m_true, [&](size_t i) { return 4 * kRoundoff * m_size(i); });
  expect_close("v", got_v, v_true, [&](size_t i) { return 4 * kRoundoff * v_true[i]; });
  expect_close("w", got_w, w_true,
               [&](size_t i) { return adamw_bound(step, w_true[i], m_size(i), v_true[i]); });
  for (size_t i = 0; i < g.size(); ++i) ASSERT_EQ(copy[i].bits, to_bf16(got_w[i]).bits);

  Floats again_w = w, again_m = m, again_v = v;
  adamw(n, step, g.data(), grad_scale, again_w.data(), again_m.data(), again_v.data(), nullptr);
  EXPECT_EQ(again_w, got_w);
}

TEST(Optimiser, AdamWEveryLength) {
  for_every_target([] {
    for (int64_t n = 0; n <= 70; ++n) {
      SCOPED_TRACE(n);
      check_adamw(n, n % 2 == 0 ? 1.0f : 0.3f);
      if (testing::Test::HasFatalFailure()) return;
    }
    check_adamw(40000, 0.5f);
  });
}

TEST(Optimiser, AdamWAtTheEdges) {
  // g:      nothing yet · tiny · huge · NaN
  const Floats g = {0, 1e-30f, 1e15f, NAN};
  for_every_target([&] {
    Floats w(4, 1), m(4, 0), v(4, 0);
    AdamW step = adamw_step(1);
    step.decay = 0;
    adamw(4, step, g.data(), 1, w.data(), m.data(), v.data(), nullptr);
    EXPECT_EQ(w[0], 1);
    EXPECT_NEAR(w[1], 1, 1e-6);
    EXPECT_NEAR(w[2], 1 - step.lr, 1e-6);
    EXPECT_TRUE(std::isnan(w[3]));
  });
}

TEST(Optimiser, SgdEveryLength) {
  for_every_target([] {
    for (int64_t n : {0, 1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 40000}) {
      const Floats g = normals(n, 1), w = normals(n, 2);
      Floats got = w;
      std::vector<Bf16> copy(static_cast<size_t>(n));
      sgd(n, 0.1f, 0.2f, g.data(), 0.7f, got.data(), copy.data());
      Numbers expected = widen(w);
      for (size_t i = 0; i < g.size(); ++i)
        reference::sgd(double(0.1f), double(0.2f), double(g[i]) * double(0.7f), expected[i]);
      expect_close("w", got, expected,
                   [&](size_t i) { return 4 * kRoundoff * double(std::abs(w[i]) + std::abs(g[i])); });
      for (size_t i = 0; i < g.size(); ++i) ASSERT_EQ(copy[i].bits, to_bf16(got[i]).bits);
    }
  });
}

TEST(Optimiser, SquaredNorm) {
  for_every_target([] {
    for (int64_t n : {0, 1, 2, 3, 7, 8, 15, 16, 17, 33, 16384, 100003, 3000001}) {
      const Floats x = normals(n, 1, 1e-3f);
      double expected = 0;
      for (float v : x) expected += double(v) * double(v);
      EXPECT_NEAR(squared_norm(n, x.data()), expected, double(n + 1) * 0x1p-53 * expected) << n;
    }
  });
}

// ---- The update that rides in the backward pass ----

struct Layer {
  int64_t T, out, in;
  Floats dy, x, w, m, v, dx_before;
  Layer(int64_t T, int64_t out, int64_t in)
      : T(T),
        out(out),
        in(in),
        dy(normals(T * out, 1)),
        x(normals(T * in, 2)),
        w(normals(out * in, 3)),
        m(normals(out * in, 4)),
        v(squares(normals(out * in, 5))),
        dx_before(normals(T * in, 6)) {}
  std::string name() const {
    return "T " + std::to_string(T) + " out " + std::to_string(out) + " in " + std::to_string(in);
  }
  Floats scratch() const { return Floats(size_t(linear_backward_scratch(T, out, in)), NAN); }
  reference::Linear linear() const { return {T, out, in, widen(x), widen(w)}; }
  // Gradients made of the sizes of their terms.
  reference::Linear sizes() const {
    const auto positive = [](Floats values) {
      for (float& value : values) value = std::abs(value);
      return widen(values);
    };
    return reference::linear_backward({T, out, in, positive(x), positive(w)}, positive(dy));
  }
};

struct Result {
  Floats w, m, v, dx;
};

Result ride_sgd(const Layer& layer, float decay, bool accumulate) {
  Result got{layer.w, {}, {}, layer.dx_before};
  Floats scratch = layer.scratch();
  linear_backward_sgd(layer.T, layer.out, layer.in, layer.dy.data(), layer.x.data(), 0.05f, decay,
                      got.w.data(), got.dx.data(), accumulate, scratch.data());
  return got;
}

Result ride_adamw(const Layer& layer, const AdamW& step, bool accumulate) {
  Result got{layer.w, layer.m, layer.v, layer.dx_before};
  Floats scratch = layer.scratch();
  linear_backward_adamw(layer.T, layer.out, layer.in, layer.dy.data(), layer.x.data(), step, got.w.data(),
                        got.m.data(), got.v.data(), got.dx.data(), accumulate, scratch.data());
  return got;
}

void check_dx(const Layer& layer, const Result& got, const reference::Linear& gradient, bool accumulate) {
  const Numbers size = layer.sizes().x;
  const Floats zeros(layer.dx_before.size(), 0.0f);
  const Floats& before = accumulate ? layer.dx_before : zeros;
  expect_close("dx", got.dx, sum(gradient.x, before), [&](size_t i) {
    return double(layer.out + 18) * kRoundoff * (size[i] + std::abs(double(before[i])));
  });
}

void check_ride_sgd(const Layer& layer, bool accumulate) {
  SCOPED_TRACE(layer.name());
  constexpr float kDecay = 0.2f;
  const Result got = ride_sgd(layer, kDecay, accumulate);
  const reference::Linear gradient = reference::linear_backward(layer.linear(), widen(layer.dy));
  check_dx(layer, got, gradient, accumulate);
  Numbers w = widen(layer.w);
  for (size_t i = 0; i < w.size(); ++i)
    reference::sgd(double(0.05f), double(kDecay), gradient.weight[i], w[i]);
  const Numbers size = layer.sizes().weight;
  expect_close("w", got.w, w, [&](size_t i) {
    return double(layer.T + 4) * kRoundoff * (std::abs(double(layer.w[i])) + size[i]);
  });
}

void check_ride_adamw(const Layer& layer, bool accumulate) {
  SCOPED_TRACE(layer.name());
  const AdamW step = adamw_step(2);
  const Result got = ride_adamw(layer, step, accumulate);
  const reference::Linear gradient = reference::linear_backward(layer.linear(), widen(layer.dy));
  check_dx(layer, got, gradient, accumulate);
  Numbers w = widen(layer.w), m = widen(layer.m), v = widen(layer.v);
  for (size_t i = 0; i < w.size(); ++i) reference::adamw(step, gradient.weight[i], w[i], m[i], v[i]);
  const Numbers size = layer.sizes().weight;
  const double terms = double(layer.T + 4);
  const auto m_size = [&](size_t i) { return std::abs(double(layer.m[i])) + size[i]; };
  expect_close("m", got.m, m, [&](size_t i) { return terms * kRoundoff * m_size(i); });
  // g² has twice g's relative error, and g = Σ may be much smaller than its terms.
  expect_close("v", got.v, v, [&](size_t i) { return 2 * terms * kRoundoff * (v[i] + size[i] * size[i]); });
  expect_close("w", got.w, w, [&](size_t i) {
    const double v_error = terms * (1 + size[i] * size[i] * 0.001 / v[i]);
    return adamw_bound(step, w[i], m_size(i), v[i], terms + v_error);
  });
}

TEST(Optimiser, ReferenceGradients) {
  const Layer layer(3, 4, 5);
  const Numbers dy = widen(layer.dy);
  const reference::Linear v = layer.linear(), g = reference::linear_backward(v, dy);
  expect_gradient("dx", v.x, g.x, [&](const Numbers& at) {
    return dot(dy, reference::linear({v.T, v.out, v.in, at, v.weight}));
  });
  expect_gradient("dweight", v.weight, g.weight, [&](const Numbers& at) {
    return dot(dy, reference::linear({v.T, v.out, v.in, v.x, at}));
  });
}

TEST(Optimiser, RidingSmallShapes) {
  for_every_target([] {
    for (int64_t T : {1, 2, 3, 4, 5, 6, 7, 8, 15, 32})
      for (int64_t out : {1, 2, 3, 7, 8, 9, 17})
        for (int64_t in : {1, 2, 5, 15, 16, 17, 40}) {
          check_ride_sgd(Layer(T, out, in), (out + in) % 2 == 0);
          check_ride_adamw(Layer(T, out, in), (out + in) % 2 == 0);
          if (testing::Test::HasFatalFailure()) return;
        }
  });
}

TEST(Optimiser, RidingLargeShapes) {
  for_every_target([] {
    for (int64_t T : {1, 3, 8, 16, 31}) {
      check_ride_sgd(Layer(T, 128, 512), false);
      check_ride_sgd(Layer(T, 511, 129), true);
      check_ride_adamw(Layer(T, 512, 128), true);
      check_ride_adamw(Layer(T, 300, 701), false);
    }
  });
}

TEST(Optimiser, RidingWithoutInputGradient) {
  for (const Layer& layer : {Layer(1, 9, 20), Layer(4, 200, 150)}) {
    const AdamW step = adamw_step(2);
    const Result sgd_full = ride_sgd(layer, 0, false), adamw_full = ride_adamw(layer, step, false);
    Floats w = layer.w, m = layer.m, v = layer.v, scratch = layer.scratch();
    linear_backward_sgd(layer.T, layer.out, layer.in, layer.dy.data(), layer.x.data(), 0.05f, 0, w.data(),
                        nullptr, false, scratch.data());
    EXPECT_EQ(w, sgd_full.w);
    w = layer.w;
    linear_backward_adamw(layer.T, layer.out, layer.in, layer.dy.data(), layer.x.data(), step, w.data(),
                          m.data(), v.data(), nullptr, false, scratch.data());
    EXPECT_EQ(w, adamw_full.w);
    EXPECT_EQ(v, adamw_full.v);
  }
}

TEST(Optimiser, SameForAnyThreads) {
  for (const Layer& layer : {Layer(1, 512, 128), Layer(5, 301, 1001), Layer(8, 1024, 2100),
                             Layer(16, 512, 128), Layer(32, 128, 256)})
    expect_same_for_threads([&] {
      const Result plain = ride_sgd(layer, 0.1f, true);
      const Result adam = ride_adamw(layer, adamw_step(4), false);
      Floats all = plain.dx;
      for (const Floats* part : {&adam.w, &adam.m, &adam.v, &adam.dx, &plain.w})
        all.insert(all.end(), part->begin(), part->end());
      return all;
    });
  const Floats x = normals(1000001, 1);
  expect_same_for_threads([&] { return Numbers{squared_norm(1000001, x.data())}; });
  expect_same_for_threads([&] {
    Floats w = x, m = x, v = squares(x);
    adamw(int64_t(x.size()), adamw_step(4), x.data(), 0.5f, w.data(), m.data(), v.data(), nullptr);
    return w;
  });
}

}  // namespace
}  // namespace brood::kernels
