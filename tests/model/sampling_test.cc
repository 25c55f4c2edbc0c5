#include "brood/model/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/fixture/messages.h"

namespace brood {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<double> frequencies(const std::vector<float>& logits, const Sampling& sampling, int draws) {
  Random random(7);
  std::vector<double> share(logits.size());
  for (int i = 0; i < draws; ++i) share[size_t(sample(logits, sampling, random))] += 1.0 / draws;
  return share;
}

// Five standard deviations of a binomial share.
double tolerance(double p, int draws) { return 5 * std::sqrt(p * (1 - p) / draws) + 1e-9; }

void expect_shares(const std::vector<float>& logits, const Sampling& sampling,
                   const std::vector<double>& wanted) {
  constexpr int kDraws = 40000;
  const std::vector<double> share = frequencies(logits, sampling, kDraws);
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_NEAR(share[i], wanted[i], tolerance(wanted[i], kDraws)) << "token " << i;
}

std::vector<float> logs(std::vector<double> p) {
  std::vector<float> logits;
  for (const double x : p) logits.push_back(float(std::log(x)));
  return logits;
}

TEST(Sampling, ZeroTemperatureIsTheFirstOfTheMostLikely) {
  Random random(1);
  const auto before = random.state();
  EXPECT_EQ(sample(std::vector<float>{1, 3, 3, 2}, {.temperature = 0}, random), 1);
  EXPECT_EQ(sample(std::vector<float>{-kInf, -5}, {.temperature = 0}, random), 1);
  EXPECT_EQ(random.state(), before);
  EXPECT_EQ(sample(std::vector<float>{1, 3, 3, 2}, {.top_k = 1}, random), 1);
  EXPECT_EQ(sample(std::vector<float>{1, 3, 3, 2}, {.top_p = 1e-6f}, random), 1);
  EXPECT_EQ(sample(std::vector<float>{1, 3, 2}, {.temperature = 1e-45f}, random), 1);
}

TEST(Sampling, DrawsFromTheSoftmax) {
  expect_shares(logs({0.1, 0.2, 0.3, 0.4}), {}, {0.1, 0.2, 0.3, 0.4});
  // p² normalised: temperature one half.
  expect_shares(logs({0.1, 0.2, 0.3, 0.4}), {.temperature = 0.5f}, {1. / 30, 4. / 30, 9. / 30, 16. / 30});
  expect_shares({0, 1000, -kInf, 1000}, {}, {0, 0.5, 0, 0.5});
}

TEST(Sampling, CutsToTheMostLikely) {
  expect_shares(logs({0.1, 0.4, 0.2, 0.3}), {.top_k = 2}, {0, 4. / 7, 0, 3. / 7});
  expect_shares(logs({0.1, 0.4, 0.2, 0.3}), {.top_p = 0.69f}, {0, 4. / 7, 0, 3. / 7});
  expect_shares(logs({0.1, 0.4, 0.2, 0.3}), {.top_p = 0.71f}, {0, 4. / 9, 2. / 9, 3. / 9});
  // top-p is taken of what top-k leaves: 4/9, 3/9, 2/9.
  expect_shares(logs({0.1, 0.4, 0.2, 0.3}), {.top_k = 3, .top_p = 0.7f}, {0, 4. / 7, 0, 3. / 7});
  expect_shares({1, 1, 1, 1}, {.top_k = 3}, {1. / 3, 1. / 3, 1. / 3, 0});
}

TEST(Sampling, ACutThatKeepsAllChangesNoDraw) {
  std::vector<float> logits(300);
  Random fill(3);
  fill.fill_normal(logits.data(), 300, 2);
  Random a(5), b(5), c(5);
  for (int i = 0; i < 1000; ++i) {
    const int32_t plain = sample(logits, {}, a);
    EXPECT_EQ(sample(logits, {.top_k = 300}, b), plain);
    EXPECT_EQ(sample(logits, {.top_k = 1000}, c), plain);
  }
  EXPECT_EQ(a.state(), b.state());
}

TEST(Sampling, RefusesWhatCannotBe) {
  Random random(1);
  const std::vector<float> logits{1, 2};
  const auto message = [&](Sampling s) { return message_of([&] { sample(logits, s, random); }); };
  expect_contains(message({.temperature = -1}), "temperature is -1");
  expect_contains(message({.temperature = kInf}), "temperature is inf");
  expect_contains(message({.temperature = std::nanf("")}), "temperature is nan");
  expect_contains(message({.top_k = -2}), "top-k is -2");
  expect_contains(message({.top_p = 0}), "top-p is 0");
  expect_contains(message({.top_p = 1.5f}), "top-p is 1.5");
  for (const std::vector<float>& bad :
       {std::vector<float>{1, std::nanf(""), 2}, {std::nanf(""), 1}, {1, kInf}})
    expect_contains(message_of([&] { sample(bad, {}, random); }), "diverged");
  expect_contains(message_of([&] { sample(std::vector<float>{-kInf, -kInf}, {}, random); }), "ruled out");
}

}  // namespace
}  // namespace brood
