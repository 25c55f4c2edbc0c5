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

void check_curves(const Case& c) {
  const Numbers a = widen(c.a), dy = widen(c.dy), da = widen(c.da);
  const auto backward_size = [&](size_t i) { return std::abs(da[i]) + std::abs(dy[i]); };
  Floats y(c.a.size()), dx = c.da;
  sigmoid(c.n, c.a.data(), y.data());
  expect_each(
      "sigmoid", y, kSmooth, [&](size_t i) { return reference::sigmoid(a[i]); },
      [&](size_t i) { return reference::sigmoid(a[i]); });
  sigmoid_backward(c.n, y.data(), c.dy.data(), dx.data());
  expect_each(
      "sigmoid dx", dx, kSmooth,
      [&](size_t i) { return da[i] + dy[i] * reference::sigmoid(a[i]) * reference::sigmoid(-a[i]); },
      backward_size);

  tanh(c.n, c.a.data(), y.data());
  expect_each(
      "tanh", y, kSmooth, [&](size_t i) { return std::tanh(a[i]); },
      [&](size_t i) { return std::abs(std::tanh(a[i])); });
  dx = c.da;
  tanh_backward(c.n, y.data(), c.dy.data(), dx.data());
  expect_each(
      "tanh dx", dx, kSmooth,
      [&](size_t i) { return da[i] + dy[i] * (1 - std::tanh(a[i]) * std::tanh(a[i])); }, backward_size);

  exp(c.n, c.a.data(), y.data());
  expect_each(
      "exp", y, kSmooth, [&](size_t i) { return std::exp(a[i]); }, [&](size_t i) { return std::exp(a[i]); });

  // The tail's exponential is taken of a rounded x²/2.
  const auto tail = [&](size_t i) { return 1 + a[i] * a[i] / 16; };
  gelu(c.n, c.a.data(), y.data());
  expect_each(
      "gelu", y, kSmooth, [&](size_t i) { return reference::gelu(a[i]); },
      [&](size_t i) { return std::abs(reference::gelu(a[i])) * tail(i); });
  dx = c.da;
  gelu_backward(c.n, c.a.data(), c.dy.data(), dx.data());
  expect_each(
      "gelu dx", dx, kSmooth, [&](size_t i) { return da[i] + dy[i] * reference::gelu_slope(a[i]); },
      [&](size_t i) {
        return std::abs(da[i]) +
               std::abs(dy[i]) * (reference::normal_share(a[i]) +
                                  std::abs(a[i]) * reference::normal_density(a[i]) * tail(i));
      });
}

void check_heavy_tail(const Case& c) {
  const Numbers a = widen(c.a), dy = widen(c.dy), da = widen(c.da);
  constexpr double kLeast = 0.125;  // reached by a good part of the inputs
  const auto truth = [&](size_t i) { return std::max(kLeast, a[i] >= 0 ? 1 + a[i] : 1 / (1 - a[i])); };
  const auto slope = [&](size_t i) { return a[i] >= 0 ? 1 : truth(i) > kLeast ? truth(i) * truth(i) : 0; };
  Floats y(c.a.size()), dx = c.da;
  heavy_tail(c.n, c.a.data(), float(kLeast), y.data());
  expect_each("heavy tail", y, 4, truth, truth);
  heavy_tail_backward(c.n, y.data(), float(kLeast), c.dy.data(), dx.data());
  expect_each(
      "heavy tail dx", dx, 16, [&](size_t i) { return da[i] + dy[i] * slope(i); },
      [&](size_t i) { return std::abs(da[i]) + std::abs(dy[i]); });
}

void check_added(const Case& c) {
  Floats y = c.b;
  add_scaled(c.n, 0.3f, c.a.data(), y.data());
  expect_each(
      "add_scaled", y, 2, [&](size_t i) { return double(c.b[i]) + double(0.3f) * double(c.a[i]); },
      [&](size_t i) { return std::abs(c.b[i]) + std::abs(c.a[i]); });
}

TEST(Activation, RowsTimesTheirNumbers) {
  for_every_target([] {
    for (int64_t rows : {1, 2, 5, 300}) {
      for (int64_t cols = 1; cols <= 70; cols += rows == 300 ? 23 : 1) {
        SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols));
        const Case c(rows * cols);
        const Floats factor = normals(rows, 7), dfactor_before = normals(rows, 8);
        const auto row = [&](size_t i) { return i / size_t(cols); };
        Floats y(c.a.size());
        scale_rows(rows, cols, c.a.data(), factor.data(), y.data());
        expect_each(
            "y", y, 1, [&](size_t i) { return double(c.a[i]) * double(factor[row(i)]); },
            [&](size_t i) { return std::abs(c.a[i] * factor[row(i)]); });

        Floats dx = c.da, dfactor = dfactor_before;
        scale_rows_backward(rows, cols, c.a.data(), factor.data(), c.dy.data(), dx.data(), dfactor.data());
        expect_each(
            "dx", dx, 2, [&](size_t i) { return double(c.da[i]) + double(c.dy[i]) * double(factor[row(i)]); },
            [&](size_t i) { return std::abs(c.da[i]) + std::abs(c.dy[i] * factor[row(i)]); });
        Numbers expected = widen(dfactor_before), size(expected.size());
        for (size_t i = 0; i < c.a.size(); ++i) {
          expected[row(i)] += double(c.dy[i]) * double(c.a[i]);
          size[row(i)] += std::abs(double(c.dy[i]) * double(c.a[i]));
        }
        expect_each(
            "dfactor", dfactor, double(cols + 2), [&](size_t i) { return expected[i]; },
            [&](size_t i) { return size[i] + std::abs(dfactor_before[i]); });

        Floats product(dfactor.size());
        dot_rows(rows, cols, c.dy.data(), c.a.data(), product.data());
        expect_each(
            "product", product, double(cols + 2),
            [&](size_t i) { return expected[i] - double(dfactor_before[i]); },
            [&](size_t i) { return size[i]; });
        Floats added = c.da;
        add_scaled_rows(rows, cols, c.dy.data(), factor.data(), added.data());
        EXPECT_EQ(added, dx);

        Floats alone = c.da;
        scale_rows_backward(rows, cols, c.a.data(), factor.data(), c.dy.data(), alone.data(), nullptr);
        EXPECT_EQ(alone, dx);
        alone = dfactor_before;
        scale_rows_backward(rows, cols, c.a.data(), factor.data(), c.dy.data(), nullptr, alone.data());
        EXPECT_EQ(alone, dfactor);
        if (testing::Test::HasFailure()) return;
      }
    }
  });
}

TEST(Activation, ReferenceSlope) {
  Numbers x, slope;
  for (double at = -12; at <= 12; at += 0.7) x.push_back(at), slope.push_back(reference::silu_slope(at));
  expect_gradient("silu", x, slope, [](const Numbers& at) {
    double sum = 0;
    for (double v : at) sum += reference::silu(v);
    return sum;
  });
  for (size_t i = 0; i < x.size(); ++i) slope[i] = reference::gelu_slope(x[i]);
  expect_gradient("gelu", x, slope, [](const Numbers& at) {
    double sum = 0;
    for (double v : at) sum += reference::gelu(v);
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
      check_curves(c);
      check_added(c);
      check_heavy_tail(c);
      if (testing::Test::HasFatalFailure()) return;
    }
    check_arithmetic(Case(40000));
    check_silu(Case(40000));
    check_curves(Case(40000));
    check_added(Case(40000));
    check_heavy_tail(Case(40000));
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
    gelu(c.n, y.data(), y.data());
    tanh(c.n, y.data(), y.data());
    gelu_backward(c.n, c.a.data(), c.dy.data(), da.data());
    tanh_backward(c.n, y.data(), c.dy.data(), db.data());
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
