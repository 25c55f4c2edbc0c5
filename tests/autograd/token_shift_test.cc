// The token shift and what mixes by it, against finite differences and by hand.
#include "brood/autograd/token_shift.h"

#include <vector>

#include "tests/autograd/inputs.h"

namespace brood {
namespace {

using testing::as_input;
using testing::expect_gradients;
using testing::random_parameter;
using testing::sum_of;
using testing::weigh;

TEST(TokenShift, EachStreamSeesItsOwnStepBefore) {
  std::vector<float> x(2 * 3 * 2), state = {-1, -2, -3, -4};
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i);
  Tape tape;
  tape.start(false);
  StateVar shift{tape.leaf(state.data(), 2, 2), {}};
  const Var y = token_shift(tape, tape.leaf(x.data(), 6, 2), Chunk{.B = 2, .T = 3}, shift);
  const std::vector<float> expected = {-1, -2, 0, 1, 2, 3, -3, -4, 6, 7, 8, 9};
  EXPECT_EQ(std::vector<float>(y.value(), y.value() + y.size()), expected);
  EXPECT_EQ(state, (std::vector<float>{4, 5, 10, 11}));
}

TEST(TokenShift, Gradients) {
  for (int64_t T : {1, 2, 7}) {
    ParameterStore store;
    Random random(3);
    const int64_t B = 2, d = 5;
    Parameter& x = random_parameter(store, "x", {B * T, d}, random);
    Parameter& start = random_parameter(store, "state", {B, d}, random);
    Parameter& share = random_parameter(store, "share", {d}, random);
    expect_gradients(store, [&](Tape& tape) {
      StateVar state{as_input(tape, start), {}};
      Var in = as_input(tape, x);
      Var before = token_shift(tape, in, Chunk{.B = B, .T = T}, state);
      return sum_of(tape, weigh(tape, lerp(tape, in, before, share)), weigh(tape, state.out, 5));
    });
  }
}

TEST(Lerp, SharesOfEachNumber) {
  ParameterStore store;
  Random random(4);
  Parameter& x = random_parameter(store, "x", {3, 5}, random);
  Parameter& z = random_parameter(store, "z", {3, 5}, random);
  Parameter& share = random_parameter(store, "share", {3, 5}, random);
  expect_gradients(store, [&](Tape& tape) {
    return weigh(tape, lerp(tape, as_input(tape, x), as_input(tape, z), as_input(tape, share)));
  });
}

}  // namespace
}  // namespace brood
