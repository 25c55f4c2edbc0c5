#include "brood/learn/guarded.h"

#include <cmath>
#include <limits>
#include <string>

#include "brood/learn/rehearsal.h"
#include "brood/model/diverged.h"
#include "tests/fixture/memory_file_system.h"
#include "tests/model/architectures.h"

namespace brood {
namespace {

using testing::EveryArchitecture;
using testing::random_tokens;

const char* const kSmall = R"({"architecture": "mamba", "vocab_size": 17, "d_model": 8, "n_layer": 1})";

// Rehearsal looks back on less than what is read, and copies lie close.
LiveSettings close_copies() {
  return {.chunk = 10,
          .keep_every = 64,
          .rehearsals = 2,
          .rehearsal_window = 20,
          .rehearse_every = 2,
          .rehearsal_memory = 100};
}

std::vector<float> numbers(const Model& model, const State& state) {
  std::vector<float> all;
  const auto add = [&](const Tensor& t) { all.insert(all.end(), t.f32(), t.f32() + t.size()); };
  for (const Parameter& p : model.parameters().all())
    for (const Tensor* t : {&p.value, &p.moment1, &p.moment2}) add(*t);
  for (const StateTensor& t : state.tensors) add(t.value);
  return all;
}

void spoil(Model& model) {
  for (Parameter& p : model.parameters().all()) p.value.f32()[0] = std::numeric_limits<float>::quiet_NaN();
}

TEST(RehearsalMemory, HoldsTheLastAndGoesBack) {
  RehearsalMemory memory(5, 3, 0, 0);
  std::vector<int32_t> all;
  for (int32_t i = 0; i < 40; ++i) {
    memory.add(std::span(&i, 1));
    all.push_back(i);
    if (i % 7 == 6) {  // three fewer, and others in their place
      memory.go_back(memory.given() - 3, memory.distant());
      all.resize(all.size() - 3);
    }
    ASSERT_EQ(memory.size(), std::min<int64_t>(5, int64_t(all.size())));
    for (int64_t k = 0; k < memory.size(); ++k)
      ASSERT_EQ(memory[k], all[all.size() - size_t(memory.size() - k)]);
  }
}

class Guarded : public EveryArchitecture {};

// From any copy, with what rehearsal needs: to the bit what the undisturbed one learns.
TEST_P(Guarded, GoesOnFromACopyAsIfNothingHadBeen) {
  const auto tokens = random_tokens(400, 17, 6);
  Model whole(nlohmann::json::parse(GetParam().json), 1);
  State whole_state = whole.make_state(1);
  GuardedLearner undisturbed(whole, whole_state, close_copies(), {}, {});
  undisturbed.observe(tokens);

  Model model(nlohmann::json::parse(GetParam().json), 1);
  State state = model.make_state(1);
  GuardedLearner first(model, state, close_copies(), {}, {});
  first.observe(std::span(tokens).first(333));
  const GuardedLearner::Copy& copy = first.latest();
  ASSERT_EQ(copy.taken, 320);
  GuardedLearner second(*copy.learner.model, const_cast<State&>(copy.learner.state), close_copies(), {}, {});
  EXPECT_TRUE(second.restore(copy.learner.notes, copy.notes).empty());
  EXPECT_EQ(second.needs_from(), 220);
  second.remember(std::span(tokens).subspan(220, 100));
  second.observe(std::span(tokens).subspan(320));
  EXPECT_EQ(numbers(whole, whole_state), numbers(*copy.learner.model, copy.learner.state));
  EXPECT_EQ(undisturbed.learner().notes(), second.learner().notes());
}

// Of a stream so long that what is older than the last tokens is sampled: gone on with from a save, and gone back.
TEST(GuardedLearner, TheDistantPastIsAsItWas) {
  LiveSettings settings = close_copies();
  settings.keep_every = 2048;
  settings.distant_memory = 2 * Reservoir::kBlock;
  const auto tokens = random_tokens(9000, 17, 6);
  Model whole(nlohmann::json::parse(kSmall), 1);
  State whole_state = whole.make_state(1);
  GuardedLearner undisturbed(whole, whole_state, settings, {}, {});
  undisturbed.observe(tokens);
  const auto expected = numbers(whole, whole_state);

  for (const bool distant : {true, false}) {
    Model model(nlohmann::json::parse(kSmall), 1);
    State state = model.make_state(1);
    GuardedLearner first(model, state, settings, {}, {});
    first.observe(std::span(tokens).first(6500));
    const GuardedLearner::Copy& copy = first.latest();
    ASSERT_LT(copy.taken, 6500);
    MemoryFileSystem files;
    copy.learner.distant.writer()("rehearsal", "save", files);
    const std::string bytes = files.read("rehearsal");
    GuardedLearner second(*copy.learner.model, const_cast<State&>(copy.learner.state), settings, {}, {});
    second.restore(copy.learner.notes, copy.notes);
    const int64_t from = second.needs_from(), taken = second.taken();
    second.remember(std::span(tokens).subspan(size_t(from), size_t(taken - from)));
    if (distant)
      second.learner().remember_distant(SafetensorsFile::parse(std::as_bytes(std::span(bytes)), "rehearsal"));
    second.observe(std::span(tokens).subspan(size_t(taken)));
    EXPECT_EQ(numbers(*copy.learner.model, copy.learner.state) == expected, distant)
        << "without it another thing is learnt";
  }

  // Back to the copy, and the same tokens again.
  Model model(nlohmann::json::parse(kSmall), 1);
  State state = model.make_state(1);
  LiveLearner learner(model, state, settings);
  learner.observe(std::span(tokens).first(6000));
  LiveCopy copy;
  ASSERT_TRUE(learner.copy_to(copy));
  learner.observe(std::span(tokens).subspan(6000, 1900));
  learner.go_back(copy);
  learner.observe(std::span(tokens).subspan(6000));
  EXPECT_EQ(numbers(model, state), expected);
}

INSTANTIATE_TEST_SUITE_P(Tiny, Guarded, ::testing::ValuesIn(testing::tiny_models()), testing::tiny_name);

// A weight that is no number: back to the last copy, the chunk is passed over, the rest is learnt; and who restores that
// does the same.
TEST(GuardedLearner, GoesBackAndPassesOverWhatDidIt) {
  const auto tokens = random_tokens(600, 17, 7);
  std::vector<std::pair<int64_t, std::vector<int32_t>>> rejected;
  int64_t went_back = 0;
  const GuardEvents events{.scored = {},
                           .kept = [] { return nlohmann::json("mark"); },
                           .went_back =
                               [&](const nlohmann::json& notes) {
                                 EXPECT_EQ(notes, "mark");
                                 ++went_back;
                               },
                           .rejected =
                               [&](int64_t position, std::span<const int32_t> some) {
                                 rejected.emplace_back(position, std::vector(some.begin(), some.end()));
                               }};
  Model model(nlohmann::json::parse(kSmall), 1);
  State state = model.make_state(1);
  GuardedLearner guard(model, state, close_copies(), {}, events);
  guard.observe(std::span(tokens).first(305));
  spoil(model);
  guard.observe(std::span(tokens).subspan(305, 195));
  ASSERT_EQ(rejected.size(), 1u);
  EXPECT_EQ(rejected[0].first, 300);
  EXPECT_EQ(rejected[0].second, std::vector(tokens.begin() + 300, tokens.begin() + 310));
  EXPECT_EQ(went_back, 1);
  EXPECT_EQ(guard.taken(), 500);
  EXPECT_EQ(guard.rejected(), 10);
  EXPECT_EQ(guard.learner().scored(), 490);
  EXPECT_TRUE(std::isfinite(guard.learner().nats()));

  // What it learns is what one learns that never saw the chunk, at half the rate since the copy.
  Model other(nlohmann::json::parse(kSmall), 1);
  State other_state = other.make_state(1);
  LiveLearner reference(other, other_state, close_copies());
  reference.observe(std::span(tokens).first(260));
  reference.slow_down(0.5);
  reference.observe(std::span(tokens).subspan(260, 40));
  reference.observe(std::span(tokens).subspan(310, 190));
  EXPECT_EQ(numbers(model, state), numbers(other, other_state));

  const GuardedLearner::Copy& copy = guard.hold();
  GuardedLearner again(*copy.learner.model, const_cast<State&>(copy.learner.state), close_copies(), {},
                       events);
  again.restore(copy.learner.notes, copy.notes);
  const int64_t from = again.needs_from(), taken = again.taken();
  again.remember(std::span(tokens).subspan(size_t(from), size_t(taken - from)));
  again.observe(std::span(tokens).subspan(size_t(taken)));
  guard.observe(std::span(tokens).subspan(500));
  EXPECT_EQ(numbers(model, state), numbers(*copy.learner.model, copy.learner.state));
}

TEST(GuardedLearner, GivesUpWhenItHelpsNothing) {
  LiveSettings settings = close_copies();
  settings.optimiser.learning_rate = 1e30;
  settings.warmup = 0;
  for (const int64_t rollbacks : {0, 3}) {
    Model model(nlohmann::json::parse(kSmall), 1);
    State state = model.make_state(1);
    GuardedLearner guard(model, state, settings, {.rollbacks = rollbacks}, {});
    EXPECT_THROW(guard.observe(random_tokens(3000, 17, 8)), Diverged);
    EXPECT_EQ(guard.times_back(), rollbacks);
  }
}

// A copy that somebody reads stays as it is.
TEST(GuardedLearner, HoldsACopyWhileItIsRead) {
  const auto tokens = random_tokens(1000, 17, 9);
  Model model(nlohmann::json::parse(kSmall), 1);
  State state = model.make_state(1);
  GuardedLearner guard(model, state, close_copies(), {}, {});
  guard.observe(std::span(tokens).first(100));
  const GuardedLearner::Copy& held = guard.hold();
  const auto before = numbers(*held.learner.model, held.learner.state);
  const int64_t taken = held.taken;
  guard.observe(std::span(tokens).subspan(100));
  EXPECT_GT(guard.latest().taken, taken);
  EXPECT_EQ(held.taken, taken);
  EXPECT_EQ(numbers(*held.learner.model, held.learner.state), before);
}

}  // namespace
}  // namespace brood
