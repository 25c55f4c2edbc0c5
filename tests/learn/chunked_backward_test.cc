#include "brood/learn/chunked_backward.h"

#include <algorithm>

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

INSTANTIATE_TEST_SUITE_P(Tiny, ChunkedBackward, ::testing::ValuesIn(testing::tiny_models()),
                         testing::tiny_name);

}  // namespace
}  // namespace brood
