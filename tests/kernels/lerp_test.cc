// Interpolation and biases against their definitions in double precision.
#include "brood/kernels/lerp.h"

#include <gtest/gtest.h>

#include "brood/kernels/bias.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"

namespace brood::kernels {
namespace {

// A handful of roundings of numbers no larger than `size`.
double few(double size) { return 6 * kRoundoff * (size + 1e-30); }

void check_lerp(int64_t rows, int64_t cols, bool own) {
  const int64_t n = rows * cols, shares = own ? n : cols;
  const Floats x = normals(n, 1), z = normals(n, 2), share = normals(shares, 3), dy = normals(n, 4),
               dx_before = normals(n, 5), dz_before = normals(n, 6), dshare_before = normals(shares, 7);
  const auto of = [&](size_t i) { return own ? i : i % size_t(cols); };
  Numbers y(x.size()), dx = widen(dx_before), dz = widen(dz_before), dshare = widen(dshare_before),
                       size(share.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double s = double(share[of(i)]), step = double(z[i]) - double(x[i]), g = double(dy[i]);
    y[i] = double(x[i]) + step * s;
    dx[i] += g * (1 - s);
    dz[i] += g * s;
    dshare[of(i)] += g * step;
    size[of(i)] += std::abs(g) * (std::abs(double(x[i])) + std::abs(double(z[i])));
  }
  Floats got(x.size());
  lerp(rows, cols, x.data(), z.data(), share.data(), own, got.data());
  expect_close("y", got, y, [&](size_t i) {
    const double s = std::abs(double(share[of(i)]));
    return few(std::abs(double(x[i])) * (1 + s) + std::abs(double(z[i])) * s);
  });
  Floats got_dx = dx_before, got_dz = dz_before, got_dshare = dshare_before;
  lerp_backward(rows, cols, x.data(), z.data(), share.data(), own, dy.data(), got_dx.data(), got_dz.data(),
                got_dshare.data());
  const auto bound = [&](const Floats& before) {
    return [&](size_t i) {
      return few(std::abs(double(before[i])) +
                 std::abs(double(dy[i])) * (1 + std::abs(double(share[of(i)]))));
    };
  };
  expect_close("dx", got_dx, dx, bound(dx_before));
  expect_close("dz", got_dz, dz, bound(dz_before));
  expect_close("dshare", got_dshare, dshare, [&](size_t i) {
    return (double(rows) + 4) * kRoundoff * (std::abs(double(dshare_before[i])) + size[i]);
  });
  // Each alone.
  Floats alone = dz_before;
  lerp_backward(rows, cols, x.data(), z.data(), share.data(), own, dy.data(), nullptr, alone.data(), nullptr);
  EXPECT_EQ(alone, got_dz);
}

void check_bias(int64_t rows, int64_t cols) {
  const Floats row = normals(cols, 1), x = normals(rows * cols, 2), before = normals(cols, 3);
  Floats y = x, total = before;
  add_row(rows, cols, row.data(), y.data());
  Numbers sums = widen(before), size = widen(before);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % size_t(cols);
    EXPECT_EQ(y[i], x[i] + row[c]);
    sums[c] += double(x[i]);
    size[c] = std::abs(size[c]) + std::abs(double(x[i]));
  }
  sum_rows(rows, cols, x.data(), total.data());
  expect_close("total", total, sums,
               [&](size_t i) { return double(rows + 1) * kRoundoff * (std::abs(size[i]) + 1e-30); });
}

TEST(Lerp, EveryShape) {
  for_every_target([] {
    for (int64_t rows = 1; rows <= 4; ++rows)
      for (int64_t cols = 1; cols <= 40; ++cols) {
        SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols));
        for (bool own : {false, true}) check_lerp(rows, cols, own);
        check_bias(rows, cols);
        if (testing::Test::HasFatalFailure()) return;
      }
    for (bool own : {false, true}) check_lerp(50, 700, own);
    check_bias(50, 700);
  });
}

TEST(Lerp, SameForAnyThreads) {
  const int64_t rows = 130, cols = 391, n = rows * cols;
  const Floats x = normals(n, 1), z = normals(n, 2), share = normals(n, 3), dy = normals(n, 4);
  for (bool own : {false, true})
    expect_same_for_threads([&] {
      Floats all(size_t(4 * n));
      lerp(rows, cols, x.data(), z.data(), share.data(), own, all.data());
      lerp_backward(rows, cols, x.data(), z.data(), share.data(), own, dy.data(), all.data() + n,
                    all.data() + 2 * n, all.data() + 3 * n);
      add_row(rows, cols, share.data(), all.data());
      sum_rows(rows, cols, x.data(), all.data() + 3 * n);
      return all;
    });
}

}  // namespace
}  // namespace brood::kernels
