#include "brood/learn/error_distribution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "brood/base/random.h"
#include "brood/learn/novelty.h"

namespace brood {
namespace {

TEST(ErrorDistribution, TailsAndQuantilesOfWhatCame) {
  ErrorDistribution errors(1 - 1e-9);
  Random random(1);
  std::vector<double> all;
  for (int i = 0; i < 50000; ++i) {
    all.push_back(std::abs(random.normal()));
    errors.add(all.back());
  }
  std::sort(all.begin(), all.end());
  for (const double share : {0.1, 0.5, 0.8, 0.95, 0.99}) {
    const double quantile = all[size_t(share * double(all.size()))];
    EXPECT_NEAR(errors.quantile(share) / quantile, 1, 0.03) << share;
    // A bin is an eighth of a doubling wide: 9 %.
    EXPECT_GE(errors.tail(quantile) * 1.001, 1 - share);
    EXPECT_LT(errors.tail(quantile * 1.1), 1 - share);
  }
  EXPECT_NEAR(errors.tail(1e9) * 50001, 1, 1e-3);  // rarer than all that came, but not impossible
}

TEST(ErrorDistribution, OldErrorsFade) {
  ErrorDistribution errors(0.99);
  for (int i = 0; i < 1000; ++i) errors.add(100);
  for (int i = 0; i < 1000; ++i) errors.add(1);
  EXPECT_LT(errors.quantile(0.99), 2);
  EXPECT_NEAR(errors.total(), 100, 1);
}

TEST(ErrorDistribution, AnEndlessStreamStaysFinite) {
  ErrorDistribution errors(0.9);
  for (int i = 0; i < 100000; ++i) errors.add(i % 7 == 0 ? 0 : 1e-300 * std::pow(10.0, i % 400));
  EXPECT_TRUE(std::isfinite(errors.tail(1)) && errors.tail(1) > 0 && errors.tail(1) <= 1);
  EXPECT_TRUE(std::isfinite(errors.quantile(1)));
}

// Also when the errors grow and shrink all the time.
TEST(ConformalInterval, HoldsItsShare) {
  for (const double coverage : {0.5, 0.8, 0.95}) {
    ConformalInterval interval(coverage);
    Random random(2);
    int inside = 0;
    const int n = 20000;
    for (int i = 0; i < n; ++i) {
      const double size = std::abs(random.normal()) * std::exp(2 * std::sin(i / 500.0)),
                   width = interval.half_width();
      inside += size <= width;
      interval.learn(size, width);
    }
    EXPECT_NEAR(double(inside) / n, coverage, 0.01);
  }
}

TEST(Prototypes, KnowWhatWasSeen) {
  Prototypes seen(1);
  for (int i = 0; i < 1000; ++i) {
    const double x = i * 387 % 1000 / 1000.0;
    if (x < 0.4 || x > 0.6) seen.learn({&x, 1});
  }
  const double known = 0.2, gap = 0.5, outside = 3;
  EXPECT_LE(seen.distance({&known, 1}), 0.02);
  EXPECT_NEAR(seen.distance({&gap, 1}), 0.1, 0.02);
  EXPECT_NEAR(seen.distance({&outside, 1}), 2, 0.05);
  EXPECT_LT(seen.count(), 80);
}

TEST(Prototypes, NeverMoreThanTheirBound) {
  Prototypes seen(2);
  Random random(3);
  std::vector<double> point(2);
  for (int i = 0; i < 30000; ++i) {
    const double size = std::exp2(i / 1000);
    point = {size * random.normal(), size * random.normal()};
    seen.learn(point);
    ASSERT_LE(seen.count(), Prototypes::kMost);
  }
  EXPECT_LT(seen.distance(point), 0.2);
}

}  // namespace
}  // namespace brood
