// Recursive least squares and its statistics against ridge regression solved at once, in long double.
#include "brood/learn/closed_form.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "brood/base/error.h"
#include "brood/base/random.h"

namespace brood {
namespace {

using Numbers = std::vector<double>;
constexpr int64_t kInputs = 17, kOutputs = 3;
constexpr double kRidge = 0.5;

struct Example {
  Numbers z, y;
};

std::vector<Example> examples(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<Example> all(count, {Numbers(size_t(kInputs)), Numbers(size_t(kOutputs))});
  for (Example& one : all) {
    for (double& x : one.z) x = double(random.normal());
    one.z[0] = 1;
    for (size_t k = 0; k < one.y.size(); ++k)
      one.y[k] = one.z[k] - 2 * one.z[k + 1] + 0.3 * double(random.normal());
  }
  return all;
}

// By Gaussian elimination with pivots; rows weigh forgetting^(age).
Numbers ridge_at_once(const std::vector<Example>& all, double forgetting) {
  using Wide = long double;
  const auto n = size_t(kInputs);
  Numbers weights(size_t(kOutputs) * n);
  for (size_t k = 0; k < size_t(kOutputs); ++k) {
    std::vector<std::vector<Wide>> rows(n, std::vector<Wide>(n + 1, 0));
    Wide weight = 1;
    for (size_t t = all.size(); t-- > 0; weight *= Wide(forgetting))
      for (size_t i = 0; i < n; ++i) {
        for (size_t j = 0; j < n; ++j) rows[i][j] += weight * Wide(all[t].z[i]) * Wide(all[t].z[j]);
        rows[i][n] += weight * Wide(all[t].z[i]) * Wide(all[t].y[k]);
      }
    for (size_t i = 0; i < n; ++i) rows[i][i] += weight * Wide(kRidge);  // the prior fades as examples do
    for (size_t i = 0; i < n; ++i) {
      const auto pivot =
          std::max_element(rows.begin() + int64_t(i), rows.end(),
                           [&](const auto& a, const auto& b) { return std::abs(a[i]) < std::abs(b[i]); });
      std::swap(rows[i], *pivot);
      for (size_t r = 0; r < n; ++r) {
        if (r == i) continue;
        const Wide share = rows[r][i] / rows[i][i];
        for (size_t j = i; j <= n; ++j) rows[r][j] -= share * rows[i][j];
      }
    }
    for (size_t i = 0; i < n; ++i) weights[k * n + i] = double(rows[i][n] / rows[i][i]);
  }
  return weights;
}

double apart(std::span<const double> a, std::span<const double> b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

RecursiveLeastSquares learnt(const std::vector<Example>& all, double forgetting) {
  RecursiveLeastSquares learner(kInputs, kOutputs, forgetting, kRidge);
  for (const Example& one : all) learner.learn(one.z, one.y);
  return learner;
}

RidgeStatistics statistics(std::span<const Example> all) {
  RidgeStatistics sums(kInputs, kOutputs);
  for (const Example& one : all) sums.add(one.z, one.y);
  return sums;
}

TEST(ClosedForm, IsRidgeRegressionOnAllExamples) {
  auto all = examples(2000, 1);
  const Numbers expected = ridge_at_once(all, 1);
  EXPECT_LT(apart(learnt(all, 1).weights(), expected), 1e-10);
  EXPECT_LT(apart(statistics(all).solve(kRidge), expected), 1e-10);
  std::reverse(all.begin(), all.end());
  std::rotate(all.begin(), all.begin() + 700, all.end());
  EXPECT_LT(apart(learnt(all, 1).weights(), expected), 1e-10);
}

TEST(ClosedForm, ForgettingWeighsTheLastMore) {
  const auto all = examples(800, 2);
  EXPECT_LT(apart(learnt(all, 0.99).weights(), ridge_at_once(all, 0.99)), 1e-9);
}

TEST(ClosedForm, PartsAddUpToTheWhole) {
  const auto all = examples(900, 3);
  const std::span whole(all);
  RidgeStatistics merged = statistics(whole.subspan(500));
  merged.merge(statistics(whole.first(100)));
  const RidgeStatistics middle = statistics(whole.subspan(100, 400));
  merged.merge(middle);
  EXPECT_EQ(merged.examples(), 900);
  EXPECT_LT(apart(merged.solve(kRidge), statistics(whole).solve(kRidge)), 1e-12);
  merged.withdraw(middle);
  std::vector<Example> rest(all.begin(), all.begin() + 100);
  rest.insert(rest.end(), all.begin() + 500, all.end());
  EXPECT_LT(apart(merged.solve(kRidge), statistics(rest).solve(kRidge)), 1e-10);
  EXPECT_THROW(merged.merge(RidgeStatistics(kInputs + 1, kOutputs)), Error);
}

TEST(ClosedForm, StatisticsOfNoExamplesAreRefused) {
  RidgeStatistics nothing(kInputs, kOutputs);
  nothing.withdraw(statistics(examples(50, 4)));
  EXPECT_THROW(nothing.solve(kRidge), Error);
}

TEST(ClosedForm, OtherUnitsGiveTheSamePredictions) {
  const auto all = examples(1200, 5);
  // z'_i = scale_i z_i + shift_i and y' = 3 y, changed half way.
  Numbers scale(size_t(kInputs), 1.0), shift(size_t(kInputs), 0.0);
  for (size_t i = 1; i < scale.size(); ++i) scale[i] = 0.3 + 0.2 * double(i), shift[i] = double(i) - 5;
  RecursiveLeastSquares one = learnt(all, 1), other(kInputs, kOutputs, 1, kRidge);
  for (size_t t = 0; t < all.size(); ++t) {
    if (t == 600) other.change_units(scale, shift, 3);
    Numbers z = all[t].z, y = all[t].y;
    for (size_t i = 0; i < z.size() && t >= 600; ++i) z[i] = scale[i] * z[i] + shift[i];
    for (double& x : y) x *= t >= 600 ? 3 : 1;
    other.learn(z, y);
  }
  Numbers z = all[7].z, expected(kOutputs), got(kOutputs);
  one.predict(z, expected);
  for (size_t i = 0; i < z.size(); ++i) z[i] = scale[i] * z[i] + shift[i];
  other.predict(z, got);
  for (size_t k = 0; k < got.size(); ++k) EXPECT_NEAR(got[k], 3 * expected[k], 1e-9);
}

TEST(ClosedForm, AnOutputWithoutATargetLearnsNothing) {
  const auto all = examples(50, 6);
  RecursiveLeastSquares learner(kInputs, kOutputs, 1, kRidge);
  for (Example one : all) {
    one.y[1] = std::numeric_limits<double>::quiet_NaN();
    learner.learn(one.z, one.y);
  }
  const auto w = learner.weights();
  EXPECT_TRUE(std::all_of(w.begin() + kInputs, w.begin() + 2 * kInputs, [](double x) { return x == 0; }));
  EXPECT_LT(
      apart(w.first(size_t(kInputs)), std::span<const double>(ridge_at_once(all, 1)).first(size_t(kInputs))),
      1e-10);
}

// With forgetting, an input that never moves is doubted more and more; it must not grow out of all digits.
TEST(ClosedForm, StaysFiniteOnConstantAndHugeInputs) {
  RecursiveLeastSquares learner(3, 1, 0.98, kRidge);
  Numbers y(1);
  for (int t = 0; t < 20000; ++t) {
    const double x = t == 5000 ? 1e30 : t == 6000 ? 1e200 : std::sin(t);
    learner.learn(Numbers{1, 0, x}, Numbers{2 * x + 1});
    learner.predict(Numbers{1, 0, 0.5}, y);
    ASSERT_TRUE(std::isfinite(y[0])) << t;
  }
  EXPECT_NEAR(y[0], 2, 1e-6);
  learner.learn(Numbers{1, 1, 0}, Numbers{5});  // what had never moved moves
  learner.predict(Numbers{1, 1, 0}, y);
  EXPECT_NEAR(y[0], 5, 0.01);
}

}  // namespace
}  // namespace brood
