// Affine LayerNorm, of rows and of groups, and maps with a bias, against finite differences.
#include "tests/autograd/inputs.h"

namespace brood {
namespace {

using testing::as_input;
using testing::expect_gradients;
using testing::random_parameter;
using testing::weigh;

TEST(Norms, AffineLayerNormOfRowsAndOfGroups) {
  ParameterStore store;
  Random random(31);
  Parameter& x = random_parameter(store, "x", {5, 12}, random);
  Parameter& w = random_parameter(store, "w", {12}, random);
  Parameter& b = random_parameter(store, "b", {12}, random);
  Parameter& group_w = random_parameter(store, "group_w", {12}, random);
  Parameter& group_b = random_parameter(store, "group_b", {12}, random);
  expect_gradients(store, [&](Tape& tape) {
    Var in = as_input(tape, x);
    Var rows = layer_norm(tape, in, w, b, 1e-5f);
    Var groups = layer_norm(tape, tape.folded(mul(tape, rows, in), 4), group_w, group_b, 1e-5f);
    return weigh(tape, mul(tape, tape.folded(groups, 12), in));
  });
}

TEST(Norms, GroupsAreNormalisedAlone) {
  ParameterStore store;
  Random random(32);
  Parameter& x = random_parameter(store, "x", {3, 8}, random);
  Parameter& w = random_parameter(store, "w", {8}, random);
  Parameter& b = random_parameter(store, "b", {8}, random);
  Tape tape;
  tape.start(false);
  Var in = as_input(tape, x);
  Var whole = layer_norm(tape, tape.folded(in, 4), w, b, 1e-5f), plain = layer_norm(tape, tape.folded(in, 4));
  for (int64_t i = 0; i < whole.size(); ++i)
    EXPECT_NEAR(whole.value()[i], plain.value()[i] * w.value.f32()[i % 8] + b.value.f32()[i % 8], 1e-6f);
}

TEST(Linear, WithABias) {
  for (int64_t rows : {1, 6}) {
    ParameterStore store;
    Random random(33);
    Parameter& x = random_parameter(store, "x", {rows, 5}, random);
    Parameter& w = random_parameter(store, "w", {7, 5}, random);
    Parameter& b = random_parameter(store, "b", {7}, random);
    expect_gradients(store, [&](Tape& tape) {
      Var y = linear(tape, as_input(tape, x), w, b);
      return weigh(tape, mul(tape, y, y));
    });
  }
}

}  // namespace
}  // namespace brood
