// MCSD's sections on the tape against finite differences.
#include "brood/autograd/channel_decay.h"

#include "tests/autograd/inputs.h"

namespace brood {
namespace {

using testing::as_input;
using testing::sum_of;
using testing::weigh;

class Sections : public ::testing::TestWithParam<bool> {};

TEST_P(Sections, InputsAndStates) {
  const bool slope = GetParam();
  for (int64_t T : {1, 6, 40}) {
    const int64_t B = 2, C = 21;
    ParameterStore store;
    Random random(4);
    Parameter& v = store.add("v", {B * T, C + 2});
    Parameter& start = store.add("state", {B, (slope ? 2 : 1) * C});
    random.fill_normal(v.value.f32(), v.size(), 1);
    random.fill_uniform(start.value.f32(), start.size(), 1, 2);
    std::vector<float> decay(size_t(C), 0.0f);
    random.fill_uniform(decay.data(), C, 0.3f, 1);
    const Chunk chunk{.B = B, .T = T};
    testing::expect_gradients(store, [&](Tape& tape) {
      StateVar state{as_input(tape, start), {}};
      Var input = tape.columns(as_input(tape, v), 1, C + 1);
      Var y = slope ? slope_section(tape, input, decay.data(), chunk, state)
                    : decay_section(tape, input, decay.data(), chunk, state);
      return sum_of(tape, weigh(tape, y, 3), weigh(tape, state.out, 5));
    });
  }
}
INSTANTIATE_TEST_SUITE_P(Kind, Sections, ::testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Slope" : "Decay"; });

}  // namespace
}  // namespace brood
