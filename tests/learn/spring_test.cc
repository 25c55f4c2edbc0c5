#include "brood/learn/spring.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "brood/base/random.h"
#include "tests/fixture/messages.h"

namespace brood {
namespace {

// m y'' + c y' + k y = u by 2,000 small steps a sample (explicit midpoint), the force held.
std::vector<double> by_small_steps(const Spring& spring, double dt, const std::vector<float>& force) {
  constexpr int kSteps = 2000;
  const double h = dt / kSteps;
  double y = 0, v = 0;
  std::vector<double> place;
  for (const float u : force) {
    for (int i = 0; i < kSteps; ++i) {
      const auto pull = [&](double at, double speed) {
        return (double(u) - spring.damping * speed - spring.stiffness * at) / spring.mass;
      };
      const double half_y = y + h / 2 * v, half_v = v + h / 2 * pull(y, v);
      y += h * half_v;
      v += h * pull(half_y, half_v);
    }
    place.push_back(y);
  }
  return place;
}

TEST(Spring, IsSolvedExactly) {
  const Spring spring{2, 0.7, 30};
  const SpringRecordings recorded =
      record_spring(spring, {.dt = 0.1, .recordings = 1, .samples = 60, .noise = 0});
  const auto expected = by_small_steps(spring, 0.1, recorded.force);
  for (size_t t = 0; t < expected.size(); ++t) EXPECT_NEAR(double(recorded.place[t]), expected[t], 1e-6) << t;
}

void expect_found(const Spring& spring, const SpringExperiment& experiment) {
  const IdentifiedSpring found = identify_spring(record_spring(spring, experiment));
  EXPECT_NEAR(found.spring.mass / spring.mass, 1, 0.02);
  EXPECT_NEAR(found.spring.damping / spring.damping, 1, 0.02);
  EXPECT_NEAR(found.spring.stiffness / spring.stiffness, 1, 0.02);
  EXPECT_LT(found.unexplained, 2 * experiment.noise * experiment.noise + 1e-5);
}

TEST(Spring, IsFoundAgainWhateverTheSeed) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    SCOPED_TRACE(seed);
    expect_found({}, {.seed = seed});
  }
}

// Masses over four decades, swings of 8 to 60 samples, damped within a few swings or within fifteen.
TEST(Spring, IsFoundAgainWhateverItIs) {
  Random random(3);
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const double mass = std::pow(10, random.uniform(-2, 2)), dt = std::pow(10, random.uniform(-3, 0));
    const double frequency = std::exp(random.uniform(std::log(0.1), std::log(0.8))) / dt;
    const double ratio = random.uniform(0.03, 0.4);  // of the damping to that which stops the swing
    SCOPED_TRACE(::testing::Message() << "frequency·dt " << frequency * dt << ", damping ratio " << ratio);
    expect_found({mass, 2 * ratio * frequency * mass, frequency * frequency * mass},
                 {.dt = dt, .seed = seed});
  }
}

TEST(Spring, RefusesWhatIsNone) {
  expect_contains(message_of([] { record_spring({1, 100, 1}, {}); }), "100");
  expect_contains(message_of([] { record_spring({-1, 1, 1}, {}); }), "-1");
  SpringRecordings still{.dt = 0.1, .recordings = 1, .samples = 3, .force = {1, 1, 1}, .place = {0, 0, 0}};
  expect_contains(message_of([&] { identify_spring(still); }), "nothing moves");
  expect_contains(message_of([] { record_spring({}, {.recordings = int64_t(1) << 30, .samples = 1 << 20}); }),
                  "1048576 samples");
}

TEST(Spring, EndsWhenAsked) {
  int64_t steps = 0;
  const IdentifiedSpring found = identify_spring(
      record_spring({}, {}),
      {.stop = [&] { return steps == 600; }, .stepped = [&](int64_t n, double) { steps = n; }});
  EXPECT_EQ(found.steps, 600);
  EXPECT_TRUE(found.found);
  EXPECT_FALSE(identify_spring(record_spring({}, {}), {.stop = [] { return true; }, .stepped = {}}).found);
}

}  // namespace
}  // namespace brood
