// An update that rides in backward gives the weights that a stored gradient and a separate step give.
#include "brood/learn/riding.h"

#include <cmath>

#include "brood/base/threads.h"
#include "brood/learn/optimiser.h"
#include "tests/model/architectures.h"

namespace brood {
namespace {

using testing::EveryArchitecture;
using testing::random_tokens;

double loss_and_backward(Model& model, Tape& tape, GradientSink* sink, std::span<const int32_t> in,
                         std::span<const int32_t> out) {
  State state = model.make_state(1);
  const int64_t T = int64_t(in.size());
  tape.start(true, Precision::kF32, sink);
  Var loss = cross_entropy(tape, model.forward(tape, state, in, 1, T, {.keep_state = false}), out);
  double total = 0;
  for (int64_t i = 0; i < T; ++i) total += double(loss.value()[i]);
  tape.backward(loss, 1.0f / float(T));
  return total;
}

class Riding : public EveryArchitecture {};

TEST_P(Riding, EqualsAStepFromStoredGradients) {
  for (auto kind : {OptimiserSettings::Kind::kSgd, OptimiserSettings::Kind::kAdamW}) {
    OptimiserSettings settings{
        .kind = kind, .learning_rate = 1e-2, .eps = 1e-2, .weight_decay = 0.1, .clip = 0};
    Model stored(nlohmann::json::parse(GetParam().json), 3),
        riding(nlohmann::json::parse(GetParam().json), 3);
    Optimiser optimiser(stored.parameters(), settings);
    RidingOptimiser sink(settings);
    Tape a, b;
    // 1 and 5 take the fused pass, 40 the blocked one.
    for (int64_t T : {1, 5, 40}) {
      const auto in = random_tokens(T, 17, uint64_t(T)), out = random_tokens(T, 17, uint64_t(T) + 1);
      const double expected = loss_and_backward(stored, a, nullptr, in, out);
      optimiser.step(1e-2);
      sink.begin_step(1e-2);
      EXPECT_NEAR(loss_and_backward(riding, b, &sink, in, out), expected, 1e-4 * expected);
      auto p = stored.parameters().all().begin();
      for (Parameter& q : riding.parameters().all()) {
        double largest = 0, difference = 0;
        for (int64_t i = 0; i < q.size(); ++i) {
          largest = std::max(largest, std::abs(double(p->value.f32()[i])));
          difference = std::max(difference, std::abs(double(p->value.f32()[i]) - double(q.value.f32()[i])));
        }
        // Gradients differ by rounding; Adam divides by their own size, and eps bounds what rounding can
        // become.
        EXPECT_LE(difference, 2e-5 * std::max(1.0, largest)) << q.name << " T " << T;
        EXPECT_EQ(q.open_uses, 0) << q.name;
        EXPECT_FALSE(q.gradient_open) << q.name;
        ++p;
      }
    }
  }
}

// A matrix of many rows is updated block by block, some blocks to a thread.
TEST(RidingOptimiser, AMatrixOfSeveralBlocks) {
  constexpr int64_t kOut = 200, kIn = 16, kSteps = 40;
  const int before = ThreadPool::instance().size();
  Random random(7);
  std::vector<float> x(size_t(kSteps * kIn)), weights(size_t(kSteps * kOut));
  random.fill_normal(x.data(), int64_t(x.size()), 1);
  random.fill_normal(weights.data(), int64_t(weights.size()), 1);
  for (auto kind : {OptimiserSettings::Kind::kSgd, OptimiserSettings::Kind::kAdamW}) {
    const OptimiserSettings settings{
        .kind = kind, .learning_rate = 1e-2, .eps = 1e-4, .weight_decay = 0.1, .clip = 0};
    // Three steps; threads 0: gradients stored, then an update apart.
    const auto after_steps = [&](int threads) {
      ThreadPool::instance().resize(std::max(threads, 1));
      ParameterStore store;
      Parameter& w = store.add("w", {kOut, kIn});
      Random(8).fill_normal(w.value.f32(), w.size(), 0.1f);
      Optimiser optimiser(store, settings);
      RidingOptimiser riding(settings);
      Tape tape;
      for (int step = 0; step < 3; ++step) {
        tape.start(true, Precision::kF32, threads > 0 ? &riding : nullptr);
        riding.begin_step(1e-2);
        const Var y = linear(tape, tape.leaf(x.data(), kSteps, kIn), w);
        tape.backward(mul(tape, y, tape.leaf(weights.data(), kSteps, kOut)));
        if (threads == 0) optimiser.step(1e-2);
      }
      return std::vector<float>(w.value.f32(), w.value.f32() + w.size());
    };
    const auto expected = after_steps(0), one = after_steps(1);
    for (size_t i = 0; i < one.size(); ++i) ASSERT_NEAR(one[i], expected[i], 2e-5) << i;
    for (int threads : {2, 3}) EXPECT_EQ(after_steps(threads), one) << threads << " threads";
  }
  ThreadPool::instance().resize(before);
}

INSTANTIATE_TEST_SUITE_P(Tiny, Riding, ::testing::ValuesIn(testing::tiny_models()), testing::tiny_name);

TEST(Optimiser, AdamWByHand) {
  ParameterStore store;
  Parameter& w = store.add("w", {2});
  w.value.f32()[0] = 1.0f;
  w.value.f32()[1] = -2.0f;
  Optimiser optimiser(store, {.learning_rate = 0.1, .weight_decay = 0.5, .clip = 0});
  Tape tape;
  double m = 0, v = 0, expected = 1.0;
  for (int step = 1; step <= 3; ++step) {
    float* g = tape.sink().gradient(w);
    g[0] = float(step);
    g[1] = 0;
    optimiser.step(0.1);
    m = 0.9 * m + 0.1 * step;
    v = 0.999 * v + 0.001 * step * step;
    const double update = m / (1 - std::pow(0.9, step)) / (std::sqrt(v / (1 - std::pow(0.999, step))) + 1e-8);
    expected -= 0.1 * (update + 0.5 * expected);
    EXPECT_NEAR(w.value.f32()[0], expected, 1e-5);
  }
  EXPECT_NEAR(w.value.f32()[1], -2.0 * std::pow(0.95, 3), 1e-6);  // no gradient: decay alone
}

TEST(Optimiser, ClippingScalesToTheGivenNorm) {
  ParameterStore store;
  Parameter& w = store.add("w", {2});
  Optimiser optimiser(
      store, {.kind = OptimiserSettings::Kind::kSgd, .learning_rate = 1, .weight_decay = 0, .clip = 0.5});
  Tape tape;
  float* g = tape.sink().gradient(w);
  g[0] = 3;
  g[1] = 4;
  EXPECT_NEAR(optimiser.step(1.0), 5.0, 1e-6);
  EXPECT_NEAR(w.value.f32()[0], -0.3, 1e-6);
  EXPECT_NEAR(w.value.f32()[1], -0.4, 1e-6);
}

TEST(Schedule, WarmsUpDecaysAndStops) {
  const Schedule cosine{.peak = 1.0, .floor = 0.1, .warmup = 10, .total = 110};
  EXPECT_NEAR(cosine.at(0), 0.1, 1e-12);
  EXPECT_NEAR(cosine.at(9), 1.0, 1e-12);
  EXPECT_NEAR(cosine.at(60), 0.55, 1e-12);
  EXPECT_NEAR(cosine.at(110), 0.1, 1e-12);
  EXPECT_NEAR(cosine.at(1000), 0.1, 1e-12);
  const Schedule linear{
      .shape = Schedule::Shape::kLinear, .peak = 2.0, .floor = 0.0, .warmup = 0, .total = 100};
  EXPECT_NEAR(linear.at(25), 1.5, 1e-12);
}

}  // namespace
}  // namespace brood
