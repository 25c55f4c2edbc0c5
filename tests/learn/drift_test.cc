#include "brood/learn/drift.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "brood/base/error.h"
#include "brood/base/random.h"

namespace brood {
namespace {

// Costs as those of a text: around a mean that creeps, and never below nothing.
class Costs {
 public:
  explicit Costs(DriftDetector& detector) : detector_(detector) {}
  // How many changes are noticed in n steps of 32 tokens.
  int64_t feed(int64_t n, double mean, double deviation) {
    const int64_t before = detector_.count();
    for (int64_t i = 0; i < n; ++i, at_ += 32)
      detector_.see(std::max(0.0, mean + deviation * random_.normal()), at_, at_ + 32);
    return detector_.count() - before;
  }
  int64_t at() const { return at_; }

 private:
  DriftDetector& detector_;
  Random random_{1};
  int64_t at_ = 0;
};

TEST(DriftDetector, NoticesAChangeAndSaysWhere) {
  DriftDetector detector;
  Costs costs(detector);
  EXPECT_EQ(costs.feed(10000, 1.5, 0.4), 0);
  const int64_t change = costs.at();
  EXPECT_EQ(costs.feed(100, 2.5, 0.5), 1);
  ASSERT_EQ(detector.changes().size(), 1u);
  EXPECT_NEAR(double(detector.changes()[0].from), double(change), 10 * 32);
  EXPECT_GT(detector.changes()[0].noticed, change);
  EXPECT_LE(detector.changes()[0].noticed, change + 32 * 32);
  // The new text is what is usual now; and back again is another change.
  EXPECT_EQ(costs.feed(3000, 2.5, 0.5), 0);
  EXPECT_EQ(costs.feed(2000, 1.5, 0.4), 0);
  EXPECT_EQ(costs.feed(100, 2.5, 0.5), 1);
}

TEST(DriftDetector, WhatFallsCreepsOrIsOddOnceIsNoChange) {
  DriftDetector detector;
  Costs costs(detector);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(costs.feed(100, 1.5 + 4 / (1 + 0.1 * i), 0.5), 0) << "falls: " << i;
  for (int i = 0; i < 200; ++i) EXPECT_EQ(costs.feed(100, 1.7 + 0.002 * i, 0.5), 0) << "creeps: " << i;
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(costs.feed(2, 8, 0.1), 0) << "odd: " << i;
    EXPECT_EQ(costs.feed(100, 2.1, 0.5), 0);
  }
  EXPECT_FALSE(detector.see(std::nan(""), 0, 32));
  EXPECT_EQ(costs.feed(100, 2.1, 0.5), 0);
}

TEST(DriftDetector, AStreamThatNeverVariesAndKeepsItsMemoryBounded) {
  DriftDetector detector;
  for (int64_t i = 0; i < 5000; ++i) EXPECT_FALSE(detector.see(1, i, i + 1));
  Costs costs(detector);
  for (int i = 0; i < 150; ++i) {
    costs.feed(1000, 1, 0.3);
    costs.feed(100, 3, 0.3);
  }
  EXPECT_GT(detector.count(), 140);
  EXPECT_EQ(detector.changes().size(), DriftDetector::kKept);
}

TEST(DriftDetector, GoesOnFromItsNotes) {
  DriftDetector whole;
  Costs costs(whole);
  costs.feed(3000, 1.5, 0.4);
  costs.feed(5, 2.5, 0.4);  // in the midst of a rise
  DriftDetector restored;
  const auto restore = [&](const nlohmann::json& notes) {
    restored.restore(Notes(notes, "its notes", "begin anew"));
  };
  restore(nlohmann::json::parse(whole.notes().dump()));
  for (int64_t i = 0; i < 200; ++i) {
    const double cost = 2.5 + 0.01 * double(i % 7);
    EXPECT_EQ(whole.see(cost, i, i + 1), restored.see(cost, i, i + 1));
  }
  EXPECT_EQ(whole.count(), 1);
  EXPECT_EQ(whole.notes(), restored.notes());

  const nlohmann::json good = whole.notes();
  for (const auto& [key, value] : good.items())
    for (const char* wrong : {"null", "\"1\"", "-1", "[[1]]"}) {
      nlohmann::json notes = good;
      notes[key] = nlohmann::json::parse(wrong);
      EXPECT_THROW(restore(notes), Error) << notes;
      EXPECT_EQ(restored.notes(), good);
    }
}

}  // namespace
}  // namespace brood
