// RWKV-7's decays, keys and bonus on the tape, against finite differences.
#include "brood/autograd/delta_rule.h"

#include "tests/autograd/inputs.h"

namespace brood {
namespace {

using testing::as_input;
using testing::expect_gradients;
using testing::random_parameter;
using testing::sum_of;
using testing::weigh;

TEST(DeltaRuleOps, Decay) {
  ParameterStore store;
  Random random(41);
  Parameter& z = random_parameter(store, "z", {4, 6}, random);
  Parameter& bias = random_parameter(store, "bias", {6}, random);
  expect_gradients(store,
                   [&](Tape& tape) { return weigh(tape, bounded_decay(tape, as_input(tape, z), bias)); });
}

TEST(DeltaRuleOps, Keys) {
  ParameterStore store;
  Random random(42);
  Parameter& k = random_parameter(store, "k", {4, 6}, random);
  Parameter& a = random_parameter(store, "a", {4, 6}, random);
  Parameter& k_k = random_parameter(store, "k_k", {6}, random);
  Parameter& k_a = random_parameter(store, "k_a", {6}, random);
  expect_gradients(store, [&](Tape& tape) {
    const DeltaKeyVars keys = delta_keys(tape, as_input(tape, k), as_input(tape, a), k_k, k_a, 2);
    Var key = weigh(tape, contiguous(tape, keys.key), 1),
        erased = weigh(tape, contiguous(tape, keys.erased), 2),
        replaced = weigh(tape, contiguous(tape, keys.replaced), 3);
    return sum_of(tape, key, sum_of(tape, erased, replaced));
  });
}

// With views of a wider matrix.
TEST(DeltaRuleOps, Bonus) {
  ParameterStore store;
  Random random(43);
  Parameter& o = random_parameter(store, "o", {4, 6}, random);
  Parameter& r = random_parameter(store, "r", {4, 12}, random);
  Parameter& v = random_parameter(store, "v", {4, 6}, random);
  Parameter& r_k = random_parameter(store, "r_k", {2, 3}, random);
  expect_gradients(store, [&](Tape& tape) {
    Var wide = as_input(tape, r), values = as_input(tape, v);
    return weigh(tape, step_bonus(tape, as_input(tape, o), tape.columns(wide, 0, 6),
                                  tape.columns(wide, 6, 12), values, r_k, 2));
  });
}

}  // namespace
}  // namespace brood
