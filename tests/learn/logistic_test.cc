#include "brood/learn/logistic.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "brood/base/random.h"

namespace brood {
namespace {

TEST(Logistic, SquashIsTheLogisticFunction) {
  for (float x = -11.9f; x < 12; x += 0.037f)
    EXPECT_NEAR(squash(x), 1 / (1 + std::exp(-double(x))), 1e-5) << x;  // the table's cells are 1/128 wide
  EXPECT_EQ(squash(100), squash(kMostStretch));
  EXPECT_EQ(squash(-100), squash(-kMostStretch));
}

TEST(Logistic, StretchUndoesSquash) {
  for (float x = -6; x < 6; x += 0.1f) EXPECT_NEAR(stretch(squash(x)), x, 0.06) << x;
  EXPECT_TRUE(std::isfinite(stretch(0)));
  EXPECT_TRUE(std::isfinite(stretch(1)));
}

TEST(Logistic, AnAdaptiveMapLearnsTheShareOfOnes) {
  AdaptiveMap map(2, 1000);
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    map.p(1);
    map.learn(random.below(10) < 3);
  }
  EXPECT_NEAR(map.p(1), 0.3, 0.03);
  EXPECT_NEAR(map.p(0), 0.5, 1e-3) << "another situation";
  for (int i = 0; i < 20000; ++i) {
    map.p(0);
    map.learn(1);
  }
  EXPECT_GT(map.p(0), 0.999f);
  EXPECT_LT(map.p(0), 1);
}

TEST(Logistic, ARefinementStartsAsItIsAndMendsWhatIsOff) {
  Refinement refinement(4, 0.02f);
  for (float x = -8; x < 8; x += 0.3f) EXPECT_NEAR(refinement.p(x, 3), squash(x), 0.02) << x;
  for (int i = 0; i < 2000; ++i) {  // what is called 88 % comes half of the time
    refinement.p(2, 1);
    refinement.learn(i & 1);
  }
  EXPECT_NEAR(refinement.p(2, 1), 0.5, 0.2);
  EXPECT_NEAR(refinement.p(2, 0), squash(2), 0.02) << "elsewhere nothing changed";
}

// Of one input that knows, one that lies and noise, the first is believed; and each gate learns by itself.
TEST(Logistic, AGatedMixerLearnsWhomToBelieveAndWhen) {
  const std::array<int, 2> gates = {2, 1};
  GatedMixer mixer(3, gates, 1);
  Random random(2);
  double cost = 0;
  for (int i = 0; i < 8000; ++i) {
    const int bit = int(random.below(2)), gate = int(random.below(2));
    const float truth = bit ? 2.0f : -2.0f;
    mixer.inputs()[0] = gate ? truth : -truth;  // a liar in one situation
    mixer.inputs()[1] = 0.1f;
    mixer.inputs()[2] = random.below(2) ? 1.0f : -1.0f;
    const float p = mixer.p(std::array<int, 2>{gate, 0}, 0);
    EXPECT_NEAR(p, squash(mixer.stretched()), 1e-6);
    if (i >= 6000) cost -= std::log2(bit ? double(p) : 1 - double(p));
    mixer.learn(bit);
  }
  EXPECT_LT(cost / 2000, 0.2);
}

}  // namespace
}  // namespace brood
