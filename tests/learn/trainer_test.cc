#include "brood/learn/trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numbers>
#include <string>

#include "tests/fixture/scratch_directory.h"
#include "tests/fixture/tiny_models.h"

namespace brood {
namespace {

const nlohmann::json kTiny = {{"architecture", "mamba"}, {"d_model", 16}, {"n_layer", 1}};

std::vector<uint8_t> counting(size_t n, int period) {
  std::vector<uint8_t> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = uint8_t('a' + int(i) % period);
  return bytes;
}

TrainerSettings small() {
  TrainerSettings settings;
  settings.batch = 4;
  settings.context = 16;
  settings.schedule = {Schedule::Shape::kConstant, 1e-2, 1, 5, 60};
  return settings;
}

TEST(Trainer, LearnsWhatRepeats) {
  for (const bool carry : {false, true}) {
    Model model(kTiny, 1);
    const auto data = counting(1000, 7);
    auto settings = small();
    settings.carry = carry;
    Trainer trainer(model, data, settings);
    trainer.step();
    EXPECT_NEAR(trainer.loss(), std::log(256), 0.3);
    const Score score = trainer.run(data);
    EXPECT_EQ(trainer.steps(), 60);
    EXPECT_EQ(trainer.tokens(), 60 * 4 * 16);
    EXPECT_LT(score.nats_per_byte(), 1.0) << (carry ? "carried" : "crops");
  }
}

// Asks for one answer among many steps.
class OneAnswer final : public BatchSource {
 public:
  bool fill(int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) override {
    std::fill(tokens.begin(), tokens.end(), int32_t(step % 3));
    std::fill(targets.begin(), targets.end(), -1);
    targets.back() = 5;
    return true;
  }
  int64_t vocab_size() const override { return 6; }
  nlohmann::json identity() const override { return {{"answers", "one"}}; }
};

TEST(Trainer, CountsOnlyWhatIsAsked) {
  auto config = kTiny;
  config["vocab_size"] = 6;
  Model model(config, 1);
  OneAnswer source;
  Trainer trainer(model, source, small());
  trainer.step();
  EXPECT_NEAR(trainer.loss(), std::log(6), 0.3) << "the mean over the answers, not over all steps";
  trainer.run({});
  EXPECT_LT(trainer.loss(), 1);
}

TEST(Trainer, EndsWhenAskedAndSaysWhatItDoes) {
  Model model(kTiny, 1);
  const auto data = counting(1000, 7);
  auto settings = small();
  settings.valid_every = 4;
  Trainer trainer(model, data, settings);
  int steps = 0, validations = 0;
  const Score score = trainer.run(data, {.stop = [&] { return steps == 10; },
                                         .stepped = [&] { ++steps; },
                                         .validated = [&](const Score&) { ++validations; }});
  EXPECT_EQ(steps, 10);
  EXPECT_EQ(validations, 2);
  EXPECT_EQ(score.scored, 0) << "stopped: no last validation";
}

TEST(Trainer, TheClockEndsItAndSteersTheSchedule) {
  Model model(kTiny, 1);
  const auto data = counting(1000, 7);
  auto settings = small();
  settings.seconds = 0.2;
  Trainer trainer(model, data, settings);
  trainer.run({});
  EXPECT_GE(trainer.seconds(), 0.2);
  EXPECT_EQ(trainer.seconds_left(), 0);
  EXPECT_EQ(trainer.planned_steps(), trainer.steps() + 1);
}

TEST(Trainer, TheFirstStepForgetsTheMomentsOfOtherRuns) {
  std::vector<double> losses;
  const auto data = counting(1000, 7);
  for (const bool warm : {false, true}) {
    Model model(kTiny, 1);
    if (warm) fill_moments(model);
    Trainer trainer(model, data, small());
    for (int i = 0; i < 3; ++i) trainer.step();
    losses.push_back(trainer.loss());
  }
  EXPECT_EQ(losses[0], losses[1]);
}

// A model with the notes of a training of 3 steps.
LoadedModel trained(std::span<const uint8_t> data) {
  LoadedModel loaded;
  loaded.model = std::make_unique<Model>(kTiny, 1);
  ScratchDirectory scratch;
  auto settings = small();
  settings.directory = scratch / "m";
  settings.schedule.total = 3;
  Trainer(*loaded.model, data, settings).run({});
  return load_model(scratch / "m");
}

TEST(Trainer, ResumesOnlyTheSameTrainingOfTheSameText) {
  const auto data = counting(1000, 7);
  const LoadedModel loaded = trained(data);
  auto other = data;
  other[500] ^= 1;
  EXPECT_THROW(Trainer(*loaded.model, other, small()).resume(loaded), Error);
  auto settings = small();
  settings.seed = 5;
  EXPECT_THROW(Trainer(*loaded.model, data, settings).resume(loaded), Error);
  Trainer same(*loaded.model, data, small());
  same.resume(loaded);
  EXPECT_EQ(same.steps(), 3);
}

TEST(Trainer, RefusesNotesThatCannotBe) {
  const auto data = counting(1000, 7);
  const LoadedModel loaded = trained(data);
  const nlohmann::json good = loaded.progress->extra;
  std::vector<nlohmann::json> bad{nullptr, 3, nlohmann::json::array(), nlohmann::json::object()};
  for (const auto& [key, value] : good.items()) {
    bad.push_back(good);
    bad.back().erase(key);
    for (const char* wrong : {"null", "\"x\"", "{}", "[]", "-1"}) {
      bad.push_back(good);
      bad.back()[key] = nlohmann::json::parse(wrong);
    }
  }
  for (const nlohmann::json& notes : bad) {
    loaded.progress->extra = notes;
    EXPECT_THROW(Trainer(*loaded.model, data, small()).resume(loaded), Error) << notes;
  }
}

TEST(Trainer, RefusesDataAndVocabulariesTooSmall) {
  Model model(kTiny, 1);
  const auto data = counting(16, 7);
  EXPECT_THROW(Trainer(model, data, small()), Error);
  auto carried = small();
  carried.carry = true;
  EXPECT_THROW(Trainer(model, counting(64, 7), carried), Error);
  auto few = kTiny;
  few["vocab_size"] = 100;
  Model narrow(few, 1);
  const auto enough = counting(1000, 7);
  EXPECT_THROW(Trainer(narrow, enough, small()), Error);
}

TEST(Evaluate, EveryByteButTheFirstIsPredictedOnce) {
  Model model(kTiny, 1);
  for (const size_t n : {0u, 1u, 2u, 15u, 16u, 17u, 18u, 100u}) {
    const auto bytes = counting(n, 5);
    const Score score = score_windows(model, bytes, 3, 16, Precision::kF32);
    EXPECT_EQ(score.scored, std::max<int64_t>(int64_t(n) - 1, 0));
  }
}

// However the windows are put side by side, the cost is the same; and a window is a short stream.
TEST(Evaluate, WindowsAreShortStreams) {
  Model model(kTiny, 1);
  const auto bytes = counting(81, 5);
  const double nats = score_windows(model, bytes, 1, 16, Precision::kF32).nats;
  EXPECT_NEAR(score_windows(model, bytes, 4, 16, Precision::kF32).nats, nats, 1e-4 * nats);
  double streams = 0;
  for (size_t begin = 0; begin < 80; begin += 16) {
    State state = model.make_state(1);
    const Score stream = score_stream(model, state, std::span(bytes).subspan(begin, 17), 5);
    EXPECT_EQ(stream.scored, 17);
    streams += stream.nats - std::log(256);  // the first byte of a stream is any byte
  }
  EXPECT_NEAR(streams, nats, 1e-4 * nats);
}

TEST(Evaluate, AStreamCostsTheSameInAnyChunks) {
  Model model(kTiny, 1);
  const auto bytes = counting(200, 5);
  std::map<int64_t, double> nats;
  for (const int64_t chunk : {1, 7, 64, 500}) {
    State state = model.make_state(1);
    nats[chunk] = score_stream(model, state, bytes, chunk).nats;
    EXPECT_EQ(state.positions[0], 199) << "the last byte is scored, not yet read";
  }
  for (const auto& [chunk, cost] : nats) EXPECT_NEAR(cost, nats[1], 1e-4 * cost) << chunk;
}

TEST(Score, IsInNatsAndBits) {
  const Score score{std::numbers::ln2 * 30, 10};
  EXPECT_DOUBLE_EQ(score.bits_per_byte(), 3);
  EXPECT_DOUBLE_EQ(Score{}.bits_per_byte(), 0);
}

}  // namespace
}  // namespace brood
