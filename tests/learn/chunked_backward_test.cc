#include "brood/learn/chunked_backward.h"

#include <algorithm>
#include <numeric>

#include "tests/fixture/messages.h"
#include "tests/model/architectures.h"

namespace brood {
namespace {

using testing::EveryArchitecture;
using testing::random_tokens;

constexpr int64_t kStreams = 2, kSteps = 19;

bool in_place(const Model& model) {
  const State state = model.make_state(1);
  return std::any_of(state.tensors.begin(), state.tensors.end(),
                     [](const StateTensor& t) { return t.in_place; });
}

struct Pass {
  std::vector<float> gradient;
  std::vector<std::vector<float>> state;
  double nats;
};

// The second of two texts, after the first has been read.
Pass pass(Model& model, int64_t chunk) {
  const auto before = random_tokens(kStreams * 5, 17, 21), tokens = random_tokens(kStreams * kSteps, 17, 22),
             targets = random_tokens(kStreams * kSteps, 17, 23);
  State state = model.make_state(kStreams);
  Tape tape;
  tape.start(false);
  model.forward(tape, state, before, kStreams, 5);
  Pass result;
  if (chunk > 0) {
    result.nats = chunked_backward(model, state, tokens, targets, kSteps, chunk, 0.5f).nats;
  } else {
    tape.start(true);
    const Var loss = cross_entropy(tape, model.forward(tape, state, tokens, kStreams, kSteps), targets);
    result.nats = total_nats(loss);
    tape.backward(loss, 0.5f);
  }
  for (Parameter& p : model.parameters().all()) {
    result.gradient.insert(result.gradient.end(), p.gradient.f32(), p.gradient.f32() + p.size());
    p.gradient_open = false;
  }
  for (const StateTensor& t : state.tensors)
    result.state.emplace_back(t.value.f32(), t.value.f32() + t.value.size());
  EXPECT_EQ(state.positions, std::vector<int64_t>(kStreams, 5 + kSteps));
  return result;
}

void expect_close(const std::vector<float>& a, const std::vector<float>& b, float tolerance) {
  ASSERT_EQ(a.size(), b.size());
  float largest = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(b[i]));
    difference = std::max(difference, std::abs(a[i] - b[i]));
  }
  EXPECT_LE(difference, tolerance * largest);
}

class ChunkedBackward : public EveryArchitecture {};

// Rounding of another order of the same sums: as of logits (tests/model/model_test.cc), and again backward.
TEST_P(ChunkedBackward, ManyChunksAreOne) {
  Model model(nlohmann::json::parse(GetParam().json), 3);
  testing::enlarge(model);
  if (in_place(model)) {
    EXPECT_THROW(pass(model, 7), Error);
    return;
  }
  const Pass whole = pass(model, 0);
  for (int64_t chunk : {1, 7, 19, 100}) {
    SCOPED_TRACE(chunk);
    const Pass chunked = pass(model, chunk);
    EXPECT_NEAR(chunked.nats, whole.nats, 1e-5 * whole.nats);
    expect_close(chunked.gradient, whole.gradient, 1e-4f);
    for (size_t i = 0; i < whole.state.size(); ++i) expect_close(chunked.state[i], whole.state[i], 1e-4f);
  }
}

// What truncation leaves out is there: the gradient of the last chunk alone is another one.
TEST_P(ChunkedBackward, TheStateCarriesGradient) {
  Model model(nlohmann::json::parse(GetParam().json), 3);
  testing::enlarge(model);
  if (in_place(model)) return;
  const auto tokens = random_tokens(6, 17, 24), targets = random_tokens(6, 17, 25);
  StateGradient gradient = model.make_state_gradient(1);
  State state = model.make_state(1);
  Tape tape;
  tape.start(true);
  tape.backward(
      cross_entropy(tape, model.forward(tape, state, tokens, 1, 6, {.state_gradient = &gradient}), targets));
  double squares = 0;
  for (const Tensor& t : gradient.tensors)
    for (int64_t i = 0; i < t.size(); ++i) squares += double(t.f32()[i]) * double(t.f32()[i]);
  EXPECT_GT(squares, 1e-6);
}

// The masks of dropout are those of each chunk's own seed, where the states are found and where the gradient is.
TEST(ChunkedBackwardOf, DropoutHasTheSameMasksBothTimes) {
  Model model(
      nlohmann::json::parse(
          R"({"architecture":"mamba2","vocab_size":17,"d_model":12,"n_layer":2,"d_state":5,"head_dim":4,"dropout":0.4})"),
      3);
  testing::enlarge(model);
  constexpr int64_t kChunk = 7;
  const auto tokens = random_tokens(kSteps, 17, 22), targets = random_tokens(kSteps, 17, 23);
  const auto in_turn = [&](uint64_t seed) {
    State state = model.make_state(1);
    double nats = 0;
    for (int64_t begin = 0; begin < kSteps; begin += kChunk) {
      const size_t count = size_t(std::min(kChunk, kSteps - begin));
      Tape tape;
      tape.start(false);
      const Var logits = model.forward(tape, state, std::span(tokens).subspan(size_t(begin), count), 1,
                                       int64_t(count), {.training = true, .seed = seed + uint64_t(begin)});
      nats += total_nats(cross_entropy(tape, logits, std::span(targets).subspan(size_t(begin), count)));
    }
    return nats;
  };
  const auto chunked = [&](uint64_t seed) {
    State state = model.make_state(1);
    return chunked_backward(model, state, tokens, targets, kSteps, kChunk, 1,
                            {.training = true, .seed = seed})
        .nats;
  };
  EXPECT_NEAR(chunked(5), in_turn(5), 1e-5 * in_turn(5));
  EXPECT_GT(std::abs(chunked(6) - in_turn(5)), 1e-3);
}

// Every chunk is computed twice, but what people are shown of it is counted once.
TEST(ChunkedBackwardOf, ActivityIsCountedOnce) {
  Model model(
      nlohmann::json::parse(
          R"({"architecture":"retention","vocab_size":17,"d_model":12,"n_layer":2,"n_head":2,"feed":"switch","n_expert":3,"d_expert":16})"),
      3);
  const auto tokens = random_tokens(kSteps, 17, 22), targets = random_tokens(kSteps, 17, 23);
  Activity activity;
  State state = model.make_state(1);
  chunked_backward(model, state, tokens, targets, kSteps, 7, 1, {.activity = &activity});
  ASSERT_EQ(activity.expert_rows.size(), 2u);
  for (const std::vector<int64_t>& rows : activity.expert_rows)
    EXPECT_EQ(std::accumulate(rows.begin(), rows.end(), int64_t(0)), kSteps);
}

// Means over the rows of a pass are not the sums of those of its chunks.
TEST(ChunkedBackwardOf, RefusesLossesOfAWholePass) {
  for (const char* loss : {R"("balance":"loss")", R"("z_loss":0.01)", R"("balance":"none")"}) {
    SCOPED_TRACE(loss);
    Model model(nlohmann::json::parse(
        R"({"architecture":"mingru","vocab_size":17,"d_model":12,"n_layer":2,"feed":"switch","n_expert":2,)" +
        std::string(loss) + "}"));
    EXPECT_GT(pass(model, kSteps).nats, 0) << "one chunk is a whole pass";
    if (loss == std::string(R"("balance":"none")"))
      EXPECT_GT(pass(model, 7).nats, 0);
    else
      expect_contains(message_of([&] { pass(model, 7); }), "balance_loss or z_loss");
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, ChunkedBackward, ::testing::ValuesIn(testing::tiny_models()),
                         testing::tiny_name);

}  // namespace
}  // namespace brood
