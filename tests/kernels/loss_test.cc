#include "brood/kernels/loss.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"
#include "tests/reference/loss.h"

namespace brood::kernels {
namespace {

struct Case {
  int64_t rows, classes;
  Floats logits;
  std::vector<int32_t> targets;
  Case(int64_t rows, int64_t classes, float stddev = 3)
      : rows(rows), classes(classes), logits(normals(rows * classes, 1, stddev)) {
    Random random(2);
    for (int64_t row = 0; row < rows; ++row)
      targets.push_back(int32_t(random.below(uint64_t(classes) + 1)) - 1);
  }
  double largest_logit() const {
    double top = 0;
    for (float x : logits) top = std::max(top, std::abs(double(x)));
    return top;
  }
};

void check(const Case& c) {
  const Floats scale = normals(c.rows, 3, 0.5f);
  const Numbers logits = widen(c.logits);
  const size_t rows = size_t(c.rows);
  Floats loss(rows, -1), log_sum(rows, -1), loss_alone(rows, -1);
  cross_entropy_forward(c.rows, c.classes, c.logits.data(), c.targets.data(), loss.data(), log_sum.data());
  // The differences logit − top are rounded, which moves each exponential by their size; so is the result.
  const double bound = (double(c.classes) / 4 + 16 + 4 * c.largest_logit()) * kRoundoff;
  expect_close("loss", loss, reference::cross_entropy(c.classes, logits, c.targets),
               [&](size_t) { return bound; });
  cross_entropy_forward(c.rows, c.classes, c.logits.data(), c.targets.data(), loss_alone.data(), nullptr);
  EXPECT_EQ(loss, loss_alone);

  Numbers gradient = reference::cross_entropy_backward(c.classes, logits, c.targets);
  for (size_t i = 0; i < gradient.size(); ++i) gradient[i] *= double(scale[i / size_t(c.classes)]);
  Floats dlogits(c.logits.size(), 5.0f);
  cross_entropy_backward(c.rows, c.classes, c.logits.data(), c.targets.data(), log_sum.data(), scale.data(),
                         dlogits.data());
  expect_close("dlogits", dlogits, gradient,
               [&](size_t i) { return 2 * bound * std::abs(double(scale[i / size_t(c.classes)])); });
  Floats in_place = c.logits;
  cross_entropy_backward(c.rows, c.classes, in_place.data(), c.targets.data(), log_sum.data(), scale.data(),
                         in_place.data());
  EXPECT_EQ(in_place, dlogits);
}

TEST(Loss, ReferenceGradient) {
  const Case c(5, 4);
  const Numbers logits = widen(c.logits);
  expect_gradient("dlogits", logits, reference::cross_entropy_backward(4, logits, c.targets),
                  [&](const Numbers& at) {
                    const Numbers loss = reference::cross_entropy(4, at, c.targets);
                    return std::accumulate(loss.begin(), loss.end(), 0.0);
                  });
}

TEST(Loss, SmallShapes) {
  for_every_target([] {
    for (int64_t rows = 1; rows <= 4; ++rows)
      for (int64_t classes = 1; classes <= 70; ++classes) {
        SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(classes));
        check(Case(rows, classes));
        if (testing::Test::HasFatalFailure()) return;
      }
  });
}

TEST(Loss, LargeShapes) {
  for_every_target([] {
    check(Case(300, 256));
    check(Case(2, 50280));
    check(Case(3, 256, 60));
  });
}

TEST(Loss, HugeLogitsDoNotOverflow) {
  const Floats logits = {1e30f, -1e30f, 0, 3e4f, 3e4f, -3e4f};
  const std::vector<int32_t> targets = {0, 0};
  Floats loss(2), log_sum(2);
  cross_entropy_forward(2, 3, logits.data(), targets.data(), loss.data(), log_sum.data());
  EXPECT_EQ(loss[0], 0);
  EXPECT_NEAR(loss[1], std::log(2), 0.002);  // a float near 30000 has steps of 0.002
}

TEST(Loss, NanInALogitIsNanInItsLossOnly) {
  Case c(2, 40);
  c.targets = {3, 4};
  c.logits[0] = NAN;
  Floats loss(2);
  cross_entropy_forward(2, 40, c.logits.data(), c.targets.data(), loss.data(), nullptr);
  EXPECT_TRUE(std::isnan(loss[0]));
  EXPECT_FALSE(std::isnan(loss[1]));
}

TEST(Loss, SameForAnyThreads) {
  const Case c(500, 257);
  const Floats scale(500, 0.5f);
  expect_same_for_threads([&] {
    Floats loss(500), log_sum(500), dlogits(c.logits.size());
    cross_entropy_forward(c.rows, c.classes, c.logits.data(), c.targets.data(), loss.data(), log_sum.data());
    cross_entropy_backward(c.rows, c.classes, c.logits.data(), c.targets.data(), log_sum.data(), scale.data(),
                           dlogits.data());
    dlogits.insert(dlogits.end(), loss.begin(), loss.end());
    return dlogits;
  });
}

}  // namespace
}  // namespace brood::kernels
