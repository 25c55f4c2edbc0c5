// The scan of complex modes on the tape, against finite differences: u as a view, the state's gradient in and
// out, several streams.
#include "brood/autograd/complex_scan.h"

#include "tests/autograd/inputs.h"

namespace brood {
namespace {

using testing::as_input;
using testing::expect_gradients;
using testing::random_parameter;
using testing::sum_of;
using testing::weigh;

TEST(ComplexScanOp, EveryInputAndTheState) {
  for (int64_t T : {1, 3, 35}) {
    ParameterStore store;
    Random random(7);
    const int64_t B = 2, C = 5, N = 3;
    Parameter& u = random_parameter(store, "u", {B * T, C + 2}, random);
    Parameter& A = random_parameter(store, "A", {2 * N, C}, random, 0.3f);
    Parameter& input = random_parameter(store, "input", {2 * N, C}, random);
    Parameter& output = random_parameter(store, "output", {2 * N, C}, random);
    Parameter& d = random_parameter(store, "d", {C}, random);
    Parameter& start = random_parameter(store, "state", {B, 2 * N * C}, random);
    const Chunk chunk{.B = B, .T = T};
    expect_gradients(store, [&](Tape& tape) {
      StateVar state{as_input(tape, start), {}};
      Var y = complex_scan(tape, tape.columns(as_input(tape, u), 1, C + 1), as_input(tape, A),
                           as_input(tape, input), as_input(tape, output), d, chunk, state);
      return sum_of(tape, weigh(tape, y), weigh(tape, state.out, 5));
    });
  }
}

}  // namespace
}  // namespace brood
