// Classes with labels that come late.
#include "brood/learn/class_learner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "brood/base/error.h"
#include "brood/base/random.h"

namespace brood {
namespace {

struct Row {
  std::vector<double> values;
  std::string label;
};

// The class is the sign of a sum, but for a tenth of the rows.
std::vector<Row> rows(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<Row> all;
  for (int64_t t = 0; t < count; ++t) {
    const double a = 100 + 20 * random.normal(), b = random.normal();
    const bool up = (a - 100) / 20 - b > 0, wrong = random.uniform() < 0.1;
    all.push_back({{a, b}, up != wrong ? "up" : "down"});
  }
  return all;
}

std::vector<double> said(ClassLearner& learner, const std::vector<Row>& all, size_t begin, size_t end) {
  std::vector<double> numbers;
  for (size_t t = begin; t < end; ++t) {
    learner.observe(all[t].values, all[t].label);
    numbers.push_back(double(learner.predicted()));
    numbers.insert(numbers.end(), learner.probabilities().begin(), learner.probabilities().end());
  }
  return numbers;
}

TEST(ClassLearner, LearnsWhateverTheDelay) {
  for (const int64_t delay : {1, 7, 100}) {
    ClassLearner learner(2, {.delay = delay});
    const auto all = rows(4000, 1);
    said(learner, all, 0, 1000);
    learner.begin_scores();
    said(learner, all, 1000, 4000);
    const ClassScore& score = learner.score();
    EXPECT_EQ(score.rows, 3000);
    EXPECT_NEAR(double(score.right) / double(score.rows), 0.9, 0.02) << delay;
    EXPECT_LT(double(score.repeated) / double(score.rows), 0.55);
    EXPECT_LT(score.nats / double(score.rows), 0.45);
  }
}

// Another label in row 200 changes nothing before row 200 + delay.
TEST(ClassLearner, ALabelTellsNothingBeforeItIsKnown) {
  const int64_t delay = 12;
  const auto all = rows(400, 2);
  auto other = all;
  other[200].label = all[200].label == "up" ? "down" : "up";
  ClassLearner one(2, {.delay = delay}), two(2, {.delay = delay});
  EXPECT_EQ(said(one, all, 0, 200 + delay), said(two, other, 0, 200 + delay));
  EXPECT_NE(said(one, all, 200 + delay, 400), said(two, other, 200 + delay, 400));
}

TEST(ClassLearner, GoesOnToTheBit) {
  const auto all = rows(500, 3);
  const ClassSettings settings{.delay = 5, .season = 9, .window = 20};
  ClassLearner whole(2, settings), first(2, settings), second(2, settings);
  said(whole, all, 0, 250);
  said(first, all, 0, 250);
  Archive out;
  first.archive(out);
  const auto bytes = out.take();
  Archive in(bytes, "classes");
  second.archive(in);
  in.end();
  EXPECT_EQ(said(second, all, 250, 500), said(whole, all, 250, 500));
  EXPECT_EQ(second.names(), whole.names());
}

// More classes than there was room for at first: what was learnt stays, and it goes on to the bit.
TEST(ClassLearner, ManyClasses) {
  Random random(5);
  const ClassSettings settings{.delay = 3, .window = 4};
  ClassLearner learner(1, settings);
  std::vector<Row> all;
  for (int t = 0; t < 5000; ++t) {
    const bool rare = t >= 4000 && t < 4100;
    const int64_t k = rare ? 2 + t % 40 : random.uniform() < 0.5;
    all.push_back({{double(k)}, "class " + std::to_string(k)});
  }
  said(learner, all, 0, 4050);
  Archive out;
  learner.archive(out);
  const auto bytes = out.take();
  ClassLearner again(1, settings);
  Archive in(bytes, "classes");
  again.archive(in);
  in.end();
  EXPECT_EQ(said(again, all, 4050, 4200), said(learner, all, 4050, 4200));
  EXPECT_EQ(learner.names().size(), 42u);
  learner.begin_scores();
  said(learner, all, 4200, 5000);
  EXPECT_EQ(learner.score().rows, 800);
  EXPECT_GT(learner.score().right, 760);
}

TEST(ClassLearner, RowsOfTooManyClassesCountAsWrong) {
  ClassLearner learner(1, {.window = 4});
  for (int t = 0; t < 400; ++t) learner.observe(std::vector<double>{double(t)}, "class " + std::to_string(t));
  EXPECT_EQ(int64_t(learner.names().size()), ClassLearner::kMostClasses);
  EXPECT_EQ(learner.score().rows, 400);
  EXPECT_EQ(learner.score().beyond, 400 - ClassLearner::kMostClasses);
  EXPECT_EQ(learner.score().right + learner.score().repeated, 0);
}

TEST(ClassLearner, StrangeRowsAndLabels) {
  ClassLearner learner(2, {});
  const double strange[] = {std::numeric_limits<double>::quiet_NaN(), 1e308, -1e30, 0};
  const auto all = rows(3000, 4);
  for (size_t t = 0; t < all.size(); ++t) {
    const bool odd = t % 50 == 7;
    const std::vector<double> values = {odd ? strange[t / 50 % 4] : all[t].values[0], all[t].values[1]};
    learner.observe(values, t % 3 == 0 ? "" : odd ? "class " + std::to_string(t) : all[t].label);
    for (const double p : learner.probabilities()) ASSERT_TRUE(p >= 0 && p <= 1) << t;
  }
  EXPECT_GT(learner.names().size(), 40u);
}

}  // namespace
}  // namespace brood
