#include "brood/learn/chunked_backward.h"

#include <algorithm>
#include <vector>

namespace brood {

namespace {

// Steps [begin, begin + count) of every stream.
std::vector<int32_t> cut(std::span<const int32_t> all, int64_t T, int64_t begin, int64_t count) {
  std::vector<int32_t> piece;
  for (int64_t at = begin; at < int64_t(all.size()); at += T)
    piece.insert(piece.end(), all.begin() + at, all.begin() + at + count);
  return piece;
}

}  // namespace

Score chunked_backward(Model& model, State& state, std::span<const int32_t> tokens,
                       std::span<const int32_t> targets, int64_t T, int64_t chunk, float seed,
                       const ForwardOptions& options) {
  const int64_t B = state.streams;
  BROOD_ASSERT(chunk > 0 && T > 0 && int64_t(tokens.size()) == B * T && targets.size() == tokens.size());
  if (chunk < T && model.has_pass_losses())
    fail(
        "gradient of {} steps in chunks of {}: the model's balance_loss or z_loss is a mean over all rows of "
        "a "
        "pass, which chunks do not add up to; read the pass at once, or balance by \"bias\"",
        T, chunk);
  StateGradient gradient = model.make_state_gradient(B);
  const auto options_of = [&](int64_t begin, StateGradient* handed) {
    ForwardOptions own = options;
    own.keep_state = true;
    own.seed = options.seed + uint64_t(begin);  // the same masks both times
    own.state_gradient = handed;
    if (!handed) own.activity = nullptr;  // what is computed twice is counted once
    return own;
  };

  Tape tape;
  std::vector<State> starts;
  for (int64_t begin = 0; begin < T; begin += chunk) {
    starts.push_back(state.clone());
    tape.start(false);
    const int64_t count = std::min(chunk, T - begin);
    model.forward(tape, state, cut(tokens, T, begin, count), B, count, options_of(begin, nullptr));
  }

  Score score;
  for (; !starts.empty(); starts.pop_back()) {
    const int64_t begin = (int64_t(starts.size()) - 1) * chunk, count = std::min(chunk, T - begin);
    const auto wanted = cut(targets, T, begin, count);
    tape.start(true);
    const Var logits = model.forward(tape, starts.back(), cut(tokens, T, begin, count), B, count,
                                     options_of(begin, &gradient));
    const Var loss = cross_entropy(tape, logits, wanted);
    score.nats += total_nats(loss);
    score.scored += std::count_if(wanted.begin(), wanted.end(), [](int32_t t) { return t >= 0; });
    tape.backward(loss, seed);
  }
  return score;
}

}  // namespace brood
