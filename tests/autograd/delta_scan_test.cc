// The delta scan on the tape, against finite differences: inputs as views, one input in several places, the
// state's gradient in and out, several streams.
#include "brood/autograd/delta_scan.h"

#include <vector>

#include "tests/autograd/inputs.h"

namespace brood {
namespace {

using testing::as_input;
using testing::expect_gradients;
using testing::random_parameter;
using testing::sum_of;
using testing::weigh;

// RWKV-7's way: six inputs, all but v and w columns of one matrix.
TEST(DeltaScanOp, EveryInputAndTheState) {
  for (int64_t T : {1, 3, 20}) {
    ParameterStore store;
    Random random(7);
    const int64_t B = 2, H = 2, N = 5, P = 3;
    Parameter& qkab = random_parameter(store, "qkab", {B * T, 4 * H * N}, random, 0.4f);
    Parameter& v = random_parameter(store, "v", {B * T, H * P}, random);
    Parameter& w = random_parameter(store, "w", {B * T, H * N}, random, 0.5f);
    Parameter& start = random_parameter(store, "state", {B, H * N * P}, random);
    const Chunk chunk{.B = B, .T = T};
    expect_gradients(store, [&](Tape& tape) {
      Var all = as_input(tape, qkab);
      const auto part = [&](int64_t i) { return tape.columns(all, i * H * N, (i + 1) * H * N); };
      StateVar state{as_input(tape, start), {}};
      Var y = delta_scan(tape,
                         {.q = part(0),
                          .k = part(1),
                          .a = part(2),
                          .b = part(3),
                          .w = as_input(tape, w),
                          .v = as_input(tape, v)},
                         H, chunk, state);
      return sum_of(tape, weigh(tape, y), weigh(tape, state.out, 5));
    });
  }
}

// Gated DeltaNet's way: one decay a head, and the same keys written and erased.
TEST(DeltaScanOp, OneDecayAHeadAndSharedKeys) {
  ParameterStore store;
  Random random(8);
  const int64_t T = 19, H = 3, N = 4, P = 6;
  Parameter& q = random_parameter(store, "q", {T, H * N}, random);
  Parameter& k = random_parameter(store, "k", {T, H * N}, random, 0.4f);
  Parameter& a = random_parameter(store, "a", {T, H * N}, random, 0.4f);
  Parameter& v = random_parameter(store, "v", {T, H * P}, random);
  Parameter& w = random_parameter(store, "w", {T, H}, random, 0.5f);
  Parameter& start = random_parameter(store, "state", {1, H * N * P}, random);
  expect_gradients(store, [&](Tape& tape) {
    Var keys = as_input(tape, k);
    StateVar state{as_input(tape, start), {}};
    return weigh(tape, delta_scan(tape,
                                  {.q = as_input(tape, q),
                                   .k = keys,
                                   .a = as_input(tape, a),
                                   .b = keys,
                                   .w = as_input(tape, w),
                                   .v = as_input(tape, v)},
                                  H, Chunk{.B = 1, .T = T}, state));
  });
}

// A loss on the final state alone also goes back, and inputs that need no gradient get none.
TEST(DeltaScanOp, LossOnTheStateAlone) {
  ParameterStore store;
  Random random(9);
  const int64_t T = 5, N = 4, P = 6;
  Parameter& k = random_parameter(store, "k", {T, N}, random);
  Parameter& v = random_parameter(store, "v", {T, P}, random);
  std::vector<float> ones(size_t(T * N), 1.0f), zeros(size_t(T * N), 0.0f), start;
  expect_gradients(store, [&](Tape& tape) {
    start.assign(size_t(N * P), 0.5f);  // without recording it moves on in place
    Var one = tape.leaf(ones.data(), T, N), zero = tape.leaf(zeros.data(), T, N);
    StateVar state{tape.leaf(start.data(), 1, N * P), {}};
    delta_scan(tape,
               {.q = one, .k = as_input(tape, k), .a = zero, .b = zero, .w = one, .v = as_input(tape, v)}, 1,
               Chunk{.B = 1, .T = T}, state);
    return weigh(tape, state.out);
  });
}

}  // namespace
}  // namespace brood
