// The loops of recursive least squares against their definitions.
#include "brood/kernels/least_squares.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "brood/base/random.h"
#include "tests/kernels/targets.h"

namespace brood::kernels {
namespace {

using Numbers = std::vector<double>;
constexpr double kRoundoff = std::numeric_limits<double>::epsilon();

Numbers uniform(size_t n, uint64_t seed) {
  Random random(seed);
  Numbers numbers(n);
  for (double& x : numbers) x = 2 * double(random.uniform()) - 1;
  return numbers;
}

Numbers symmetric(int64_t n, uint64_t seed) {
  Numbers p = uniform(size_t(n * n), seed);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < i; ++j) p[size_t(i * n + j)] = p[size_t(j * n + i)];
  return p;
}

void check_product(int64_t n) {
  const Numbers p = symmetric(n, 1), z = uniform(size_t(n), 2);
  Numbers g(z.size());
  const double spread = symmetric_product(n, p.data(), z.data(), g.data());
  double expected = 0;
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < n; ++j) sum += p[size_t(i * n + j)] * z[size_t(j)];
    EXPECT_NEAR(g[size_t(i)], sum, double(n) * kRoundoff * double(n));
    expected += z[size_t(i)] * sum;
  }
  EXPECT_NEAR(spread, expected, double(n * n) * kRoundoff * double(n));
  EXPECT_NEAR(dot(n, z.data(), g.data()), expected, double(n * n) * kRoundoff * double(n));
}

void check_updates(int64_t n) {
  const Numbers before = symmetric(n, 3), g = uniform(size_t(n), 4);
  Numbers down = before, up = before, y = g;
  symmetric_downdate(n, g.data(), 1.25, down.data());
  symmetric_update(n, g.data(), up.data());
  add_scaled(n, -2, g.data(), y.data());
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_NEAR(y[size_t(i)], -g[size_t(i)], 4 * kRoundoff);
    for (int64_t j = 0; j < n; ++j) {
      const size_t at = size_t(i * n + j), turned = size_t(j * n + i);
      const double outer = g[size_t(i)] * g[size_t(j)];
      EXPECT_NEAR(down[at], (before[at] - outer) * 1.25, 8 * kRoundoff);
      EXPECT_NEAR(up[at], before[at] + outer, 4 * kRoundoff);
      EXPECT_EQ(down[at], down[turned]);  // to the bit
      EXPECT_EQ(up[at], up[turned]);
    }
  }
}

TEST(LeastSquares, EverySize) {
  for_every_target([] {
    for (int64_t n = 1; n <= 40; ++n) {
      SCOPED_TRACE(n);
      check_product(n);
      check_updates(n);
      if (testing::Test::HasFailure()) return;
    }
    check_product(301);
    check_updates(301);
  });
}

}  // namespace
}  // namespace brood::kernels
