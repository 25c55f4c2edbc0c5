#include "brood/model/snapshots.h"

#include <cstring>

#include "tests/fixture/messages.h"
#include "tests/fixture/tiny_models.h"
#include "tests/model/architectures.h"

namespace brood {
namespace {

using testing::EveryArchitecture;
using testing::random_tokens;

constexpr int64_t kChunk = 3;

// Reads whole chunks of `tokens` from the state's position up to step `end`.
std::vector<float> read_to(Model& model, State& state, const std::vector<int32_t>& tokens, int64_t end,
                           SnapshotRing* ring = nullptr) {
  std::vector<float> all;
  Tape tape;
  while (state.positions[0] < end) {
    if (ring) ring->observe(state);
    tape.start(false);
    const Var logits =
        model.forward(tape, state, std::span(tokens).subspan(size_t(state.positions[0]), kChunk), 1, kChunk);
    all.insert(all.end(), logits.value(), logits.value() + logits.size());
  }
  return all;
}

class Snapshots : public EveryArchitecture {};

TEST_P(Snapshots, ReadingAgainGivesTheSameBits) {
  Model model(nlohmann::json::parse(GetParam().json), 3);
  testing::enlarge(model);
  const auto tokens = random_tokens(60, 17, 5);
  State state = model.make_state(1);
  SnapshotRing ring(4, 7);
  const std::vector<float> whole = read_to(model, state, tokens, 60, &ring);
  const State end = state.clone();
  EXPECT_EQ(ring.kept(), 4);
  EXPECT_EQ(ring.newest(), 54) << "every third chunk, from 0 on";
  EXPECT_EQ(ring.oldest(), 27);
  for (int64_t back : {60, 54, 53, 30}) {
    const int64_t at = ring.roll_back(state, back);
    EXPECT_LE(at, back);
    EXPECT_GT(at, back - 9);
    EXPECT_EQ(state.positions[0], at);
    const std::vector<float> again = read_to(model, state, tokens, 60);
    ASSERT_EQ(again.size(), size_t((60 - at) * 17));
    EXPECT_EQ(0, std::memcmp(again.data(), whole.data() + at * 17, again.size() * sizeof(float)));
    expect_same_state(state, end);
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, Snapshots, ::testing::ValuesIn(testing::tiny_models()), testing::tiny_name);

State at(int64_t position, float value) {
  State state;
  state.streams = 1;
  state.positions = {position};
  state.tensors.push_back({"layers.0.memory", Tensor::zeros({1, 4})});
  state.tensors[0].value.f32()[2] = value;
  return state;
}

TEST(SnapshotRing, HoldsTheLastAndNoMoreMemory) {
  SnapshotRing ring(3, 10);
  EXPECT_EQ(ring.newest(), -1);
  for (int64_t step = 0; step < 1000; ++step) {
    EXPECT_EQ(ring.observe(at(step, float(step))), step % 10 == 0);
    EXPECT_LE(ring.bytes(), 3 * 16);
  }
  EXPECT_EQ(ring.kept(), 3);
  EXPECT_EQ(ring.bytes(), 3 * 16);
  State state = at(999, 0);
  EXPECT_EQ(ring.roll_back(state, 985), 980);
  EXPECT_EQ(state.tensors[0].value.f32()[2], 980);
  EXPECT_EQ(ring.kept(), 2) << "what came later is gone";
  EXPECT_TRUE(ring.observe(at(995, 1)));
  EXPECT_TRUE(ring.observe(at(1005, 2)));
  EXPECT_EQ(ring.oldest(), 980);
  EXPECT_EQ(ring.roll_back(state, 1 << 20), 1005);
}

TEST(SnapshotRing, SaysWhatItDoesNotHold) {
  State state = at(5, 0);
  SnapshotRing ring(2, 1);
  expect_contains(message_of([&] { ring.roll_back(state, 3); }), "step 3");
  ring.observe(state);
  expect_contains(message_of([&] { ring.roll_back(state, 4); }), "the oldest is of step 5");
  expect_contains(message_of([&] { ring.observe(at(4, 0)); }), "step 4");
  EXPECT_THROW(SnapshotRing(0, 1), Error);
  EXPECT_THROW(SnapshotRing(1, 0), Error);
}

}  // namespace
}  // namespace brood
