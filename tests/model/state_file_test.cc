#include "brood/model/state_file.h"

#include <cmath>
#include <cstring>

#include "brood/model/safetensors.h"
#include "tests/fixture/memory_file_system.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"
#include "tests/fixture/tiny_models.h"
#include "tests/model/architectures.h"

namespace brood {
namespace {

using testing::EveryArchitecture;
using testing::random_tokens;

std::vector<float> logits_after(Model& model, State& state, const std::vector<int32_t>& tokens) {
  Tape tape;
  tape.start(false);
  const Var logits =
      model.forward(tape, state, tokens, state.streams, int64_t(tokens.size()) / state.streams);
  return {logits.value(), logits.value() + logits.size()};
}

class KeptStates : public EveryArchitecture {
 protected:
  Model model{nlohmann::json::parse(GetParam().json), 3};
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/a.state";
};

TEST_P(KeptStates, GoOnToTheBit) {
  testing::enlarge(model);
  State state = model.make_state(2);
  logits_after(model, state, random_tokens(26, 17, 1));
  write_kept_state(path, kept_state(model, state.clone(), {4, -1}));
  const KeptState kept = read_kept_state(path, model);
  expect_same_state(kept.state, state);
  EXPECT_EQ(kept.last, (std::vector<int32_t>{4, -1}));
  State loaded = kept.state.clone();
  const auto more = random_tokens(10, 17, 2);
  const auto expected = logits_after(model, state, more), got = logits_after(model, loaded, more);
  EXPECT_EQ(0, std::memcmp(expected.data(), got.data(), expected.size() * sizeof(float)));
  expect_same_state(loaded, state);
}

// Each copy is the stream, and goes its own way.
TEST_P(KeptStates, ForksGoOnByThemselves) {
  testing::enlarge(model);
  State pair = model.make_state(2);
  logits_after(model, pair, random_tokens(14, 17, 3));
  const auto more = random_tokens(9, 17, 4);
  State one = pair.fork(1), three = pair.fork(1, 3);
  ASSERT_EQ(three.streams, 3);
  // The same three steps in the first and the last copy, others in the second.
  std::vector<int32_t> tokens(more.begin(), more.begin() + 3);
  tokens.insert(tokens.end(), more.begin() + 3, more.begin() + 6);
  tokens.insert(tokens.end(), more.begin(), more.begin() + 3);
  const auto alone = logits_after(model, one, {more.begin(), more.begin() + 3});
  const auto all = logits_after(model, three, tokens);
  float largest = 0, off = 0;
  for (size_t i = 0; i < alone.size(); ++i) {
    largest = std::max(largest, std::abs(alone[i]));
    off = std::max({off, std::abs(all[i] - alone[i]), std::abs(all[2 * alone.size() + i] - alone[i])});
  }
  EXPECT_LE(off, 1e-5f * largest);
  EXPECT_NE(0, std::memcmp(alone.data(), all.data() + alone.size(), alone.size() * sizeof(float)));
}

TEST(StateFork, RefusesMoreCopiesThanMemoryHolds) {
  const State one = Model(tiny_config("mamba"), 1).make_state(1);
  expect_contains(message_of([&] { one.fork(0, int64_t(1) << 50); }), "copies of a stream");
}

TEST_P(KeptStates, DifferByWhatWasRead) {
  testing::enlarge(model);
  State a = model.make_state(1), b = model.make_state(1);
  const auto tokens = random_tokens(20, 17, 6);
  logits_after(model, a, tokens);
  logits_after(model, b, tokens);
  for (const StateDifference& d : differences(a, b)) {
    EXPECT_EQ(d.norm_difference, 0) << d.name;
    EXPECT_NEAR(d.cosine, 1, 1e-12) << d.name;
    EXPECT_EQ(d.changed, 0) << d.name;
  }
  logits_after(model, b, random_tokens(5, 17, 7));
  double moved = 0;
  for (const StateDifference& d : differences(a, b)) {
    moved += d.norm_difference;
    EXPECT_LE(d.norm_difference, (d.norm_a + d.norm_b) * (1 + 1e-12)) << d.name;
    EXPECT_LE(std::abs(d.cosine), 1 + 1e-12) << d.name;
  }
  EXPECT_GT(moved, 0);
  b.reset();  // memory is not touched, but by definition it is zero
  for (const StateDifference& d : differences(a, b)) {
    EXPECT_EQ(d.norm_b, 0) << d.name;
    EXPECT_DOUBLE_EQ(d.norm_difference, d.norm_a) << d.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, KeptStates, ::testing::ValuesIn(testing::tiny_models()), testing::tiny_name);

TEST(StateFile, RefusesWhatIsNotTheModels) {
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/a.state";
  Model model(tiny_config("mamba"), 1);
  write_kept_state(path, kept_state(model, model.make_state(1), {7}));
  const auto said = [&](Model other, bool any_weights = false) {
    return message_of([&] { read_kept_state(path, other, any_weights); });
  };
  expect_contains(said(Model(tiny_config("bdh"), 1)), "\"mamba\", not bdh");
  expect_contains(said(Model(tiny_config("mamba"), 2)), "other weights");
  EXPECT_NO_THROW(read_kept_state(path, Model(tiny_config("mamba"), 2), true));
  auto deeper = tiny_config("mamba"), wider = tiny_config("mamba"), fewer = tiny_config("mamba");
  deeper["n_layer"] = 3;
  wider["d_state"] = 5;
  fewer["vocab_size"] = 7;
  expect_contains(said(Model(deeper, 1), true), "tensors");
  expect_contains(said(Model(wider, 1), true), "layers.0.");
  expect_contains(said(Model(fewer, 1), true), "last token is 7");
}

TEST(StateFile, RefusesWhatIsNoState) {
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/a.state";
  Model model(tiny_config("mamba"), 1);
  const auto refused = [&](const KeptState& kept, const std::string& words) {
    write_kept_state(path, kept);
    expect_contains(message_of([&] { read_kept_state(path); }), words);
  };
  KeptState kept = kept_state(model, model.make_state(2), {7, 8});
  kept.last = {7};
  refused(kept, "1 last tokens of 2 streams");
  kept.last = {7, -2};
  refused(kept, "-2");
  kept = kept_state(model, model.make_state(2), {7, 8});
  kept.state.positions = {3};
  refused(kept, "1 streams");
  kept.state.positions = {3, -4};
  refused(kept, "-4");
  kept = kept_state(model, model.make_state(1), {7});
  kept.state.tensors[0].value.f32()[0] = std::nanf("");
  expect_contains(message_of([&] { write_kept_state(path, kept); }), "NaN");
  const std::vector<TensorToWrite> none;
  write_safetensors(path, none, {});
  expect_contains(message_of([&] { read_kept_state(path); }), "metadata");
}

// Lengths that the file's own size does not disprove are disproved all the same.
TEST(StateFile, RefusesShapesOfNoNumbersAndMemoryThatGrows) {
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/a.state";
  const float numbers[] = {2, 0.5f};
  const auto write = [&](const std::vector<TensorToWrite>& tensors) {
    write_safetensors(path, tensors,
                      {{"architecture", "bdh"}, {"weights", "0"}, {"positions", "[3]"}, {"last", "[3]"}});
  };
  const auto said = [&](const std::vector<TensorToWrite>& tensors) {
    write(tensors);
    return message_of([&] { read_kept_state(path); });
  };
  const TensorToWrite synapses{"layers.0.synapses", Dtype::kF32, {1, 1}, numbers};
  const auto faded = [&](std::vector<int64_t> shape, const float* values) {
    return TensorToWrite{"layers.0.faded", Dtype::kF32, std::move(shape), values};
  };
  write({synapses, faded({1, 1}, numbers)});
  EXPECT_EQ(read_kept_state(path).state.tensors.size(), 2u);
  expect_contains(said({{"layers.0.ssm", Dtype::kF32, {1, 0, int64_t(1) << 60}, numbers}}), "extent of 0");
  expect_contains(said({synapses, faded({1, 0}, numbers)}), "extent of 0");
  expect_contains(said({synapses, faded({1, 2}, numbers)}), "one number a stream, but has 2");
  const float grown[] = {-1e9f};
  expect_contains(said({synapses, faded({1, 1}, grown)}), "-1000000000, but must not be negative");
}

// A kill, a full disk or a power cut leaves the old file or the new one.
TEST(StateFile, IsReplacedWholeOrNotAtAll) {
  Model model(tiny_config("mamba"), 1);
  const KeptState before = kept_state(model, model.make_state(1), {1}),
                  after = kept_state(model, model.make_state(1), {2});
  MemoryFileSystem disk;
  write_kept_state("/a.state", before, disk);
  MemoryFileSystem done = disk;
  write_kept_state("/a.state", after, done);
  const int64_t first = disk.calls(), calls = done.calls() - first;
  ASSERT_GT(calls, 3);
  const auto last_on = [](const MemoryFileSystem& found) {
    const std::string bytes = found.read("/a.state");
    return parse_kept_state(std::as_bytes(std::span(bytes)), "a.state").last[0];
  };
  EXPECT_EQ(last_on(done), 2);
  for (int64_t call = 0; call < calls; ++call) {
    MemoryFileSystem torn = disk;
    torn.die_at(first + call);
    try {
      write_kept_state("/a.state", after, torn);
    } catch (const Died&) {
    }
    for (const MemoryFileSystem& found : torn.after_power_cut()) {
      const int32_t last = last_on(found);
      EXPECT_TRUE(last == 1 || last == 2) << call;
    }
  }
}

// What one stream's memory takes is what the published shapes say, in numbers a layer.
TEST(StateFile, SizesAreThoseOfThePublishedShapes) {
  const auto numbers = [](const char* json) {
    const Model model(nlohmann::json::parse(json));
    return model.state_bytes_per_stream() / int64_t(sizeof(float));
  };
  constexpr int64_t d = 768, inner = 2 * d;
  EXPECT_EQ(numbers(R"({"architecture": "mamba", "d_model": 768, "n_layer": 1})"), inner * 16 + inner * 3);
  EXPECT_EQ(numbers(R"({"architecture": "mamba2", "d_model": 768, "n_layer": 1, "d_state": 128})"),
            24 * 64 * 128 + (inner + 2 * 128) * 3);
  EXPECT_EQ(numbers(R"({"architecture": "bdh", "d_model": 64, "n_neuron": 2048, "n_layer": 1})"),
            2048 * 64 + 1);
}

}  // namespace
}  // namespace brood
