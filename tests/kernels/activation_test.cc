#include "brood/kernels/activation.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"
#include "tests/reference/activation.h"

namespace brood::kernels {
namespace {

// Inputs that reach where sigmoid saturates.
struct Case {
  int64_t n;
  Floats a, b, dy, da, db;
  explicit Case(int64_t n)
      : n(n),
        a(normals(n, 1, 8)),
        b(normals(n, 2)),
        dy(normals(n, 3)),
        da(normals(n, 4)),
        db(normals(n, 5)) {}
};

// expected(i) within `roundings` roundings of size(i).
template <class Expected, class Size>
void expect_each(const std::string& what, const Floats& got, double roundings, const Expected& expected,
                 const Size& size) {
  Numbers truth(got.size());
  for (size_t i = 0; i < got.size(); ++i) truth[i] = expected(i);
  expect_close(what, got, truth, [&](size_t i) { return roundings * kRoundoff * size(i) + 1e-37; });
}

void check_arithmetic(const Case& c) {
  const Numbers a = widen(c.a), b = widen(c.b), dy = widen(c.dy), da = widen(c.da), db = widen(c.db);
  Floats y(c.a.size());
  add(c.n, c.a.data(), c.b.data(), y.data());
  expect_each(
      "add", y, 1, [&](size_t i) { return a[i] + b[i]; }, [&](size_t i) { return std::abs(a[i] + b[i]); });
  Floats y_to = c.b;
  add_to(c.n, c.a.data(), y_to.data());
  EXPECT_EQ(y_to, y);
  mul(c.n, c.a.data(), c.b.data(), y.data());
  expect_each(
      "mul", y, 1, [&](size_t i) { return a[i] * b[i]; }, [&](size_t i) { return std::abs(a[i] * b[i]); });
  Floats scaled = c.a;
  scale(c.n, 0.3f, scaled.data());
  expect_each(
      "scale", scaled, 1, [&](size_t i) { return a[i] * double(0.3f); },
      [&](size_t i) { return std::abs(a[i]); });

  Floats got_da = c.da, got_db = c.db;
  mul_backward(c.n, c.a.data(), c.b.data(), c.dy.data(), got_da.data(), got_db.data());
  expect_each(
      "mul da", got_da, 2, [&](size_t i) { return da[i] + dy[i] * b[i]; },
      [&](size_t i) { return std::abs(da[i]) + std::abs(dy[i] * b[i]); });
  expect_each(
      "mul db", got_db, 2, [&](size_t i) { return db[i] + dy[i] * a[i]; },
      [&](size_t i) { return std::abs(db[i]) + std::abs(dy[i] * a[i]); });
  Floats alone = c.da;
  mul_backward(c.n, c.a.data(), c.b.data(), c.dy.data(), alone.data(), nullptr);
  EXPECT_EQ(alone, got_da);
  alone = c.db;
  mul_backward(c.n, c.a.data(), c.b.data(), c.dy.data(), nullptr, alone.data());
  EXPECT_EQ(alone, got_db);
}

// Sigmoid is good to 3 units in the last place, 6 roundings; a few multiplications follow.
constexpr double kSmooth = 16;

void check_silu(const Case& c) {
  const Numbers a = widen(c.a), b = widen(c.b), dy = widen(c.dy), da = widen(c.da), db = widen(c.db);
  Floats y(c.a.size());
  silu(c.n, c.a.data(), y.data());
  expect_each(
      "silu", y, kSmooth, [&](size_t i) { return reference::silu(a[i]); },
      [&](size_t i) { return std::abs(reference::silu(a[i])); });
  Floats dx = c.da;
  silu_backward(c.n, c.a.data(), c.dy.data(), dx.data());
  // σ + x·σ·(1 − σ): its terms may cancel.
  const auto slope_size = [&](size_t i) {
    return reference::sigmoid(a[i]) + std::abs(reference::silu(a[i]));
  };
  expect_each(
      "silu dx", dx, kSmooth, [&](size_t i) { return da[i] + dy[i] * reference::silu_slope(a[i]); },
      [&](size_t i) { return std::abs(da[i]) + std::abs(dy[i]) * slope_size(i); });

  swiglu(c.n, c.a.data(), c.b.data(), y.data());
  expect_each(
      "swiglu", y, kSmooth, [&](size_t i) { return reference::silu(a[i]) * b[i]; },
      [&](size_t i) { return std::abs(reference::silu(a[i]) * b[i]); });
  Floats dgate = c.da, dup = c.db;
  swiglu_backward(c.n, c.a.data(), c.b.data(), c.dy.data(), dgate.data(), dup.data());
  expect_each(
      "dgate", dgate, kSmooth, [&](size_t i) { return da[i] + dy[i] * b[i] * reference::silu_slope(a[i]); },
      [&](size_t i) { return std::abs(da[i]) + std::abs(dy[i] * b[i]) * slope_size(i); });
  expect_each(
      "dup", dup, kSmooth, [&](size_t i) { return db[i] + dy[i] * reference::silu(a[i]); },
      [&](size_t i) { return std::abs(db[i]) + std::abs(dy[i] * reference::silu(a[i])); });
}

TEST(Activation, ReferenceSlope) {
  Numbers x, slope;
  for (double at = -12; at <= 12; at += 0.7) x.push_back(at), slope.push_back(reference::silu_slope(at));
  expect_gradient("silu", x, slope, [](const Numbers& at) {
    double sum = 0;
    for (double v : at) sum += reference::silu(v);
    return sum;
  });
}

TEST(Activation, EveryLength) {
  for_every_target([] {
    for (int64_t n = 0; n <= 70; ++n) {
      SCOPED_TRACE(n);
      const Case c(n);
      check_arithmetic(c);
      check_silu(c);
      if (testing::Test::HasFatalFailure()) return;
    }
    check_arithmetic(Case(40000));
    check_silu(Case(40000));
  });
}

TEST(Activation, ProductOfOneVectorWithItself) {
  const Case c(100);
  Floats da = c.da;
  mul_backward(c.n, c.a.data(), c.a.data(), c.dy.data(), da.data(), da.data());
  for (size_t i = 0; i < 100; ++i) EXPECT_NEAR(da[i], c.da[i] + 2 * c.dy[i] * c.a[i], 1e-5);
}

TEST(Activation, SaturatesAndKeepsNan) {
  Floats x = {-200, 200, NAN, 0}, y(4);
  silu(4, x.data(), y.data());
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[1], 200);
  EXPECT_TRUE(std::isnan(y[2]));
  EXPECT_EQ(y[3], 0);
}

TEST(Activation, SameForAnyThreads) {
  const Case c(100001);
  expect_same_for_threads([&] {
    Floats y(c.a.size()), da = c.da, db = c.db;
    swiglu(c.n, c.a.data(), c.b.data(), y.data());
    swiglu_backward(c.n, c.a.data(), c.b.data(), c.dy.data(), da.data(), db.data());
    silu_backward(c.n, c.a.data(), c.dy.data(), da.data());
    mul_backward(c.n, c.a.data(), c.b.data(), c.dy.data(), da.data(), db.data());
    dropout(c.n, 9, 0.3f, y.data(), y.data());
    y.insert(y.end(), da.begin(), da.end());
    y.insert(y.end(), db.begin(), db.end());
    return y;
  });
}

TEST(Activation, DropoutKeepsTheRightShare) {
  constexpr int64_t kN = 200000;
  const Floats x(kN, 1.0f);
  for (float rate : {0.0f, 0.1f, 0.5f, 0.9f}) {
    Floats y(kN);
    dropout(kN, 7, rate, x.data(), y.data());
    const float kept_value = 1 / (1 - rate);
    int64_t kept = 0, pairs = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      ASSERT_TRUE(y[i] == 0 || y[i] == kept_value);
      kept += y[i] != 0;
      pairs += i > 0 && y[i] != 0 && y[i - 1] != 0;
    }
    // Five standard deviations; neighbours are kept together as often as chance has it.
    const double p = 1 - double(rate), n = double(kN);
    EXPECT_NEAR(double(kept), n * p, 5 * std::sqrt(n * p * (1 - p)) + 0.5);
    EXPECT_NEAR(double(pairs), n * p * p, 5 * std::sqrt(3 * n * p * p * (1 - p)) + 1.5);
  }
}

TEST(Activation, DropoutIsAFunctionOfSeedAndPlace) {
  constexpr int64_t kN = 1000;
  const Floats x(kN, 1.0f);
  Floats first(kN), again(kN), other(kN), part(500);
  dropout(kN, 1, 0.5f, x.data(), first.data());
  for_every_target([&] {
    dropout(kN, 1, 0.5f, x.data(), again.data());
    EXPECT_EQ(first, again);
  });
  dropout(kN, 2, 0.5f, x.data(), other.data());
  EXPECT_NE(first, other);
  dropout(500, 1, 0.5f, x.data(), part.data());
  EXPECT_TRUE(std::equal(part.begin(), part.end(), first.begin()));
}

}  // namespace
}  // namespace brood::kernels
