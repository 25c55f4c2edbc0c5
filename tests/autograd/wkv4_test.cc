// RWKV-4's average on the tape, against finite differences: inputs as views, the state's gradient in and out,
// several streams.
#include "brood/autograd/wkv4.h"

#include "tests/autograd/inputs.h"

namespace brood {
namespace {

using testing::as_input;
using testing::expect_gradients;
using testing::random_parameter;
using testing::sum_of;
using testing::weigh;

// Two chunks, so that the gradient of a state goes out of one and into the other.
TEST(Wkv4Op, EveryInputAndTheState) {
  for (int64_t T : {1, 3, 35}) {
    ParameterStore store;
    Random random(7);
    const int64_t B = 2, C = 5;
    Parameter& kv = random_parameter(store, "kv", {B * T, 2 * C}, random);
    Parameter& more = random_parameter(store, "more", {B, 2 * C}, random);
    Parameter& log_w = random_parameter(store, "log_w", {C}, random, 0.5f);
    Parameter& u = random_parameter(store, "u", {C}, random);
    Parameter& start = random_parameter(store, "state", {B, 3 * C}, random);
    for (int64_t i = 0; i < B * C; ++i) {
      float& b = start.value.f32()[i / C * 3 * C + C + i % C];
      b = 1 + b * b;  // a sum of positive numbers
    }
    expect_gradients(store, [&](Tape& tape) {
      const auto average = [&](Parameter& p, int64_t steps, StateVar& state) {
        Var both = as_input(tape, p);
        return wkv4(tape, tape.columns(both, 0, C), tape.columns(both, C, 2 * C), log_w, u,
                    Chunk{.B = B, .T = steps}, state);
      };
      StateVar state{as_input(tape, start), {}};
      Var y = average(kv, T, state);
      StateVar next{state.out, {}};
      Var z = average(more, 1, next);
      return sum_of(tape, weigh(tape, y), weigh(tape, z, 5));
    });
  }
}

}  // namespace
}  // namespace brood
