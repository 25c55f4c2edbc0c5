// What must hold of every architecture: one function whichever way the stream is cut, causality, gradients,
// threads.
#include "brood/model/model.h"

#include <cmath>
#include <cstring>

#include "brood/base/threads.h"
#include "tests/autograd/check.h"
#include "tests/model/architectures.h"

namespace brood {
namespace {

using testing::EveryArchitecture;
using testing::logits_in_chunks;
using testing::random_tokens;

// Each logit is a sum over a few hundred products in f32, reordered by another cut: relative error around
// sqrt(length)·2^-24 of the largest logit, a few layers deep; 1e-5 leaves a factor of five.
void expect_close(const std::vector<float>& a, const std::vector<float>& b, const char* what) {
  ASSERT_EQ(a.size(), b.size());
  float largest = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_TRUE(std::isfinite(a[i])) << what;
    largest = std::max(largest, std::abs(a[i]));
    difference = std::max(difference, std::abs(a[i] - b[i]));
  }
  EXPECT_LE(difference, 1e-5f * largest) << what;
}

TEST_P(EveryArchitecture, AnyChunkingGivesTheSameLogits) {
  Model model(nlohmann::json::parse(GetParam().json), 3);
  testing::enlarge(model);
  const auto tokens = random_tokens(64, 17, 5);
  const auto whole = logits_in_chunks(model, tokens, {64});
  for (int64_t size : {1, 2, 7, 16}) {
    std::vector<int64_t> lengths;
    for (int64_t left = 64; left > 0; left -= size) lengths.push_back(std::min(size, left));
    expect_close(whole, logits_in_chunks(model, tokens, lengths), "equal chunks");
  }
  for (int64_t first = 1; first < 9; ++first)
    expect_close(whole, logits_in_chunks(model, tokens, {first, 64 - first}), "two");
}

TEST_P(EveryArchitecture, RecordingChangesNothingAndCarriesTheSameState) {
  Model model(nlohmann::json::parse(GetParam().json), 3);
  testing::enlarge(model);
  const auto tokens = random_tokens(24, 17, 6);
  const auto plain = logits_in_chunks(model, tokens, {9, 15});
  State state = model.make_state(1);
  Tape tape;
  std::vector<float> recorded;
  size_t at = 0;
  for (int64_t length : {9, 15}) {
    tape.start(true);
    Var logits = model.forward(tape, state, std::span(tokens).subspan(at, size_t(length)), 1, length);
    recorded.insert(recorded.end(), logits.value(), logits.value() + logits.size());
    tape.backward(logits);
    for (Parameter& p : model.parameters().all()) p.gradient_open = false;
    at += size_t(length);
  }
  EXPECT_EQ(state.positions[0], 24);
  expect_close(plain, recorded, "recorded");
}

TEST_P(EveryArchitecture, StreamsOfABatchAreIndependent) {
  Model model(nlohmann::json::parse(GetParam().json), 3);
  testing::enlarge(model);
  const auto a = random_tokens(20, 17, 7), b = random_tokens(20, 17, 8);
  State state = model.make_state(2);
  Tape tape;
  std::vector<float> first, second;
  // The second stream starts anew in the middle, at no cost.
  std::vector<int32_t> head, tail;
  head.insert(head.end(), a.begin(), a.begin() + 10);
  head.insert(head.end(), b.begin(), b.begin() + 10);
  tail.insert(tail.end(), a.begin() + 10, a.end());
  tail.insert(tail.end(), b.begin(), b.begin() + 10);
  tape.start(false);
  model.forward(tape, state, head, 2, 10);
  state.reset(1);
  tape.start(false);
  Var logits = model.forward(tape, state, tail, 2, 10);
  const int64_t half = logits.size() / 2;
  const auto whole = logits_in_chunks(model, a, {10, 10});
  const auto fresh = logits_in_chunks(model, {b.begin(), b.begin() + 10}, {10});
  expect_close({whole.end() - half, whole.end()}, {logits.value(), logits.value() + half}, "first stream");
  expect_close(fresh, {logits.value() + half, logits.value() + 2 * half}, "restarted stream");
}

TEST_P(EveryArchitecture, EarlierLogitsDoNotSeeLaterTokens) {
  Model model(nlohmann::json::parse(GetParam().json), 3);
  testing::enlarge(model);
  auto tokens = random_tokens(40, 17, 9);
  const auto before = logits_in_chunks(model, tokens, {40});
  for (size_t t : {1u, 13u, 39u}) {
    auto changed = tokens;
    changed[t] = (changed[t] + 5) % 17;
    const auto after = logits_in_chunks(model, changed, {40});
    EXPECT_EQ(0, std::memcmp(before.data(), after.data(), t * 17 * sizeof(float))) << t;
    // Joined neurons of two layers have nothing to say before the second step.
    if (t == 1 && GetParam().name == std::string("bdh_joined")) continue;
    EXPECT_NE(0, std::memcmp(before.data() + t * 17, after.data() + t * 17, 17 * sizeof(float))) << t;
  }
}

TEST_P(EveryArchitecture, GradientsMatchFiniteDifferences) {
  Model model(nlohmann::json::parse(GetParam().json), 3);
  testing::enlarge(model);
  const auto tokens = random_tokens(22, 17, 10), targets = random_tokens(22, 17, 11);
  State state = model.make_state(2);
  testing::expect_gradients(
      model.parameters(),
      [&](Tape& tape) {
        return cross_entropy(tape, model.forward(tape, state, tokens, 2, 11, {.keep_state = false}), targets);
      },
      // A ReLU that a step pushes across zero bends the loss; the smooth architectures stay below half of
      // this.
      1.5e-2);
}

TEST_P(EveryArchitecture, GradientsThroughACarriedState) {
  Model model(nlohmann::json::parse(GetParam().json), 3);
  testing::enlarge(model);
  const auto tokens = random_tokens(30, 17, 12), targets = random_tokens(10, 17, 13);
  State start = model.make_state(1);
  Tape warm;
  warm.start(false);
  model.forward(warm, start, std::span(tokens).first(20), 1, 20);
  const std::span<const int32_t> rest = std::span(tokens).last(10);
  // Not keeping the state leaves `start` as it is, so every pass begins at the same place.
  testing::expect_gradients(
      model.parameters(),
      [&](Tape& tape) {
        return cross_entropy(tape, model.forward(tape, start, rest, 1, 10, {.keep_state = false}), targets);
      },
      1.5e-2);
}

// Large enough that every operation is shared out among threads.
TEST_P(EveryArchitecture, ThreadsDoNotChangeABit) {
  constexpr int64_t kStreams = 4, kSteps = 96;
  auto config = nlohmann::json::parse(GetParam().json);
  config["vocab_size"] = 256;
  config["d_model"] = 192;
  if (config.contains("n_neuron")) config["n_neuron"] = 1024;
  const auto tokens = random_tokens(kStreams * kSteps, 256, 14),
             targets = random_tokens(kStreams * kSteps, 256, 15);
  std::vector<std::vector<float>> results;
  const int before = ThreadPool::instance().size();
  for (int threads : {1, 2, 3}) {
    ThreadPool::instance().resize(threads);
    Model model(config, 3);
    State state = model.make_state(kStreams);
    Tape tape;
    tape.start(true);
    Var loss = cross_entropy(tape, model.forward(tape, state, tokens, kStreams, kSteps), targets);
    tape.backward(loss);
    std::vector<float> all(loss.value(), loss.value() + loss.size());
    for (const StateTensor& t : state.tensors)
      all.insert(all.end(), t.value.f32(), t.value.f32() + t.value.size());
    for (Parameter& p : model.parameters().all())
      all.insert(all.end(), p.gradient.f32(), p.gradient.f32() + p.size());
    results.push_back(all);
  }
  ThreadPool::instance().resize(before);
  for (const auto& r : results)
    EXPECT_EQ(0, std::memcmp(results[0].data(), r.data(), r.size() * sizeof(float)));
}

TEST_P(EveryArchitecture, LastOnlyIsTheLastRow) {
  Model model(nlohmann::json::parse(GetParam().json), 3);
  const auto tokens = random_tokens(12, 17, 16);
  const auto all = logits_in_chunks(model, tokens, {12});
  State state = model.make_state(1);
  Tape tape;
  tape.start(false);
  Var last = model.forward(tape, state, tokens, 1, 12, {.last_only = true});
  ASSERT_EQ(last.rows(), 1);
  expect_close({all.end() - 17, all.end()}, {last.value(), last.value() + 17}, "last row");
}

INSTANTIATE_TEST_SUITE_P(Tiny, EveryArchitecture, ::testing::ValuesIn(testing::tiny_models()),
                         testing::tiny_name);

TEST(Transformer, AWindowIsAllThatItSees) {
  const auto config = nlohmann::json::parse(
      R"({"architecture":"transformer","vocab_size":17,"d_model":16,"n_layer":1,"n_head":2,"window":8})");
  Model model(config, 3);
  testing::enlarge(model);
  const auto tokens = random_tokens(100, 17, 17);
  const auto whole = logits_in_chunks(model, tokens, std::vector<int64_t>(100, 1));
  // One layer: the last 8 tokens decide, and the cache has moved its rows a dozen times by the end. Rotary
  // positions are relative, so a start elsewhere changes only rounding.
  const auto tail = logits_in_chunks(model, {tokens.end() - 8, tokens.end()}, {8});
  expect_close({whole.end() - 17, whole.end()}, {tail.end() - 17, tail.end()}, "window");
  expect_close(whole, logits_in_chunks(model, tokens, {8, 8, 5, 1, 8, 8, 8, 8, 8, 8, 8, 8, 8, 6}), "chunks");
}

TEST(Model, RefusesWhatItCannotBe) {
  const auto expect_refused = [](const char* json, const char* words) {
    try {
      Model model(nlohmann::json::parse(json));
      ADD_FAILURE() << json;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
    }
  };
  expect_refused(R"({"architecture":"mambo"})", "mambo");
  expect_refused(R"({"d_model":8})", "architecture");
  expect_refused(R"({"architecture":"mamba","d_modle":8})", "d_modle");
  expect_refused(R"({"architecture":"mamba","d_model":"eight"})", "d_model");
  expect_refused(R"({"architecture":"mamba","d_model":-4})", "d_model");
  expect_refused(R"({"architecture":"transformer","d_model":10,"n_head":3})", "n_head");
  expect_refused(R"({"architecture":"mamba","d_model":65536,"n_layer":1024})", "memory");
}

TEST(Model, RefusesStatesThatNoMemoryHolds) {
  const Model model(nlohmann::json::parse(testing::tiny_models()[0].json));
  EXPECT_GT(model.state_bytes_per_stream(), 0);
  try {
    model.make_state(int64_t(1) << 60);
    ADD_FAILURE() << "made";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("memory"), std::string::npos) << e.what();
  }
}

TEST(Model, RefusesTokensOutsideItsVocabulary) {
  Model model(nlohmann::json::parse(testing::tiny_models()[2].json));
  State state = model.make_state(1);
  Tape tape;
  tape.start(false);
  const std::vector<int32_t> tokens = {3, 17};
  EXPECT_THROW(model.forward(tape, state, tokens, 1, 2), Error);
}

}  // namespace
}  // namespace brood
