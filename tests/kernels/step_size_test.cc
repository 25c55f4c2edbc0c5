#include "brood/kernels/step_size.h"

#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"

namespace brood::kernels {
namespace {

// A step size is wanted to a few units in the last place of softplus, whose own error is 4.
constexpr double kUlps = 8 * kRoundoff;

double softplus_of(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }
double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

// x with a row stride of cols + 3; what lies between the rows must not be touched.
struct Case {
  int64_t rows, cols, ldx = cols + 3;
  Floats x = normals(rows * ldx, 1, 8), bias = normals(cols, 2), dy = normals(rows * cols, 3);
  Floats dx = normals(rows * ldx, 4), dbias = normals(cols, 5);
  double in(int64_t r, int64_t c) const { return double(x[size_t(r * ldx + c)] + bias[size_t(c)]); }
};

void check_softplus(const Case& c) {
  Floats y(size_t(c.rows * c.cols));
  softplus(c.rows, c.cols, c.x.data(), c.ldx, c.bias.data(), y.data());
  Floats dx = c.dx, dbias = c.dbias;
  softplus_backward(c.rows, c.cols, c.x.data(), c.ldx, c.bias.data(), c.dy.data(), dx.data(), dbias.data());
  Floats alone = c.dbias;
  softplus_backward(c.rows, c.cols, c.x.data(), c.ldx, c.bias.data(), c.dy.data(), nullptr, alone.data());
  EXPECT_EQ(alone, dbias) << "without dx";
  Numbers expected(y.size()), dx_expected = widen(c.dx), dbias_expected = widen(c.dbias);
  double most = 1;
  for (int64_t r = 0; r < c.rows; ++r)
    for (int64_t i = 0; i < c.cols; ++i) {
      expected[size_t(r * c.cols + i)] = softplus_of(c.in(r, i));
      const double g = double(c.dy[size_t(r * c.cols + i)]) * sigmoid_of(c.in(r, i));
      dx_expected[size_t(r * c.ldx + i)] += g;
      dbias_expected[size_t(i)] += g;
      most = std::max(most, std::abs(g));
    }
  expect_close("y", y, expected, [&](size_t i) { return kUlps * expected[i] + 1e-37; });
  expect_close("dx", dx, dx_expected, [&](size_t i) { return kUlps * (std::abs(dx_expected[i]) + most); });
  expect_close("dbias", dbias, dbias_expected,
               [&](size_t) { return kUlps * double(c.rows + 1) * double(c.rows + 1) * most; });
}

void check_decay_rates(const Case& c) {
  const int64_t n = c.rows * c.cols;
  const Floats x = normals(n, 6);
  Floats y(static_cast<size_t>(n)), dx(c.dx.begin(), c.dx.begin() + n), da = c.dbias;
  const Numbers dx_before = widen(dx);
  decay_rates(c.rows, c.cols, x.data(), c.bias.data(), y.data());
  decay_rates_backward(c.rows, c.cols, y.data(), c.bias.data(), c.dy.data(), dx.data(), da.data());
  Numbers expected(y.size()), dx_expected = dx_before, da_expected = widen(c.dbias),
                              da_size(c.dbias.size(), 1);
  for (int64_t r = 0; r < c.rows; ++r)
    for (int64_t i = 0; i < c.cols; ++i) {
      const double A = -std::exp(double(c.bias[size_t(i)])), g = double(c.dy[size_t(r * c.cols + i)]);
      expected[size_t(r * c.cols + i)] = A * double(x[size_t(r * c.cols + i)]);
      dx_expected[size_t(r * c.cols + i)] += A * g;
      da_expected[size_t(i)] += g * A * double(x[size_t(r * c.cols + i)]);
      da_size[size_t(i)] += std::abs(g * A * double(x[size_t(r * c.cols + i)]));
    }
  expect_close("y", y, expected, [&](size_t i) { return kUlps * std::abs(expected[i]) + 1e-37; });
  expect_close("dx", dx, dx_expected, [&](size_t i) {
    return kUlps * (std::abs(dx_before[i]) + std::abs(dx_expected[i] - dx_before[i]));
  });
  expect_close("da_log", da, da_expected, [&](size_t i) {
    return kUlps * double(c.rows + 1) * (std::abs(da_expected[i]) + da_size[i]);
  });
}

TEST(StepSize, AllSmallShapes) {
  for_every_target([] {
    for (int64_t rows = 1; rows <= 5; ++rows)
      for (int64_t cols = 1; cols <= 35; ++cols) {
        const Case c{.rows = rows, .cols = cols};
        check_softplus(c);
        check_decay_rates(c);
        if (testing::Test::HasFailure()) return;
      }
  });
}

}  // namespace
}  // namespace brood::kernels
