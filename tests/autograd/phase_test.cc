// Keys turned by angles that the stream decides, on every SIMD target, against double precision: values, the
// state and the gradient of every input.
#include "brood/autograd/phase.h"

#include "tests/kernels/scan_check.h"
#include "tests/reference/mamba3.h"

namespace brood {
namespace {

using reference::Mamba3;

enum Input { kX, kBias, kRate, kDelta, kStart, kInputs };

ScanValues turned(const Mamba3& s, const std::vector<Numbers>& in) {
  ScanValues values{{}, in[kStart]};
  for (int64_t row = 0; row < s.B * s.T; ++row)
    for (int64_t h = 0; h < s.heads; ++h) {
      double* phase = values.state.data() + (row / s.T * s.heads + h) * s.n;
      for (int64_t i = 0; i < s.n; ++i) {
        phase[i] += in[kRate][size_t(row * s.n + i)] * in[kDelta][size_t(row * s.heads + h)] / 2;
        phase[i] -= std::round(phase[i]);
      }
      const int64_t group = row * s.groups + h / (s.heads / s.groups);
      const Numbers key =
          reference::turned_key(s, in[kX].data() + group * s.N, in[kBias].data() + h * s.N, phase);
      values.y.insert(values.y.end(), key.begin(), key.end());
    }
  return values;
}

// The operations on a tape of their own, with gradients dy and dstate from outside.
ScanRun on_the_tape(const Mamba3& s, const std::vector<Numbers>& numbers, const Numbers& dy,
                    const Numbers& dstate) {
  std::vector<Floats> in;
  for (const Numbers& n : numbers) in.push_back(narrow(n));
  ParameterStore store;
  Parameter& bias = store.add("bias", {s.heads, s.N});
  std::copy(in[kBias].begin(), in[kBias].end(), bias.value.f32());
  Tape tape;
  tape.start(true);
  const auto leaf = [&](Input i, int64_t rows) {
    return tape.leaf(in[i].data(), rows, int64_t(in[i].size()) / rows, true);
  };
  const int64_t rows = s.B * s.T;
  const std::vector<Var> vars = {leaf(kX, rows), Var(), leaf(kRate, rows), leaf(kDelta, rows),
                                 leaf(kStart, s.B)};
  StateVar state{vars[kStart], {}};
  Var phase = phases(tape, vars[kRate], vars[kDelta], {.B = s.B, .T = s.T}, state);
  Var y = phase_rotary(tape, vars[kX], bias, phase, s.heads, s.groups);
  ScanRun run{
      {y.value(), y.value() + y.size()}, {state.out.value(), state.out.value() + state.out.size()}, {}};

  Var loss = tape.make(1, 1, true);
  tape.record(loss, [&tape, y, state, &dy, &dstate] {
    for (size_t i = 0; i < dy.size(); ++i) tape.gradient(y)[i] += float(dy[i]);
    for (size_t i = 0; i < dstate.size(); ++i) tape.gradient(state.out)[i] += float(dstate[i]);
  });
  tape.backward(loss);
  for (size_t i = 0; i < kInputs; ++i) {
    const float* gradient = i == kBias ? bias.gradient.f32() : tape.gradient(vars[i]);
    run.gradients.emplace_back(gradient, gradient + in[i].size());
    for (float& g : run.gradients.back()) g += kBefore;
  }
  return run;
}

ScanCase make_case(const Mamba3& s) {
  Random random(uint64_t(s.T * 10 + s.N));
  const int64_t rows = s.B * s.T;
  ScanCase c;
  c.names = {"x", "bias", "rate", "delta", "start"};
  c.inputs = {draw(random, rows * s.groups * s.N, -1, 1), draw(random, s.heads * s.N, -1, 1),
              draw(random, rows * s.n, -1, 1), draw(random, rows * s.heads, 0, 2),
              draw(random, s.B * s.heads * s.n, -0.4, 0.4)};
  c.reference = [s](const std::vector<Numbers>& in) { return turned(s, in); };
  c.kernel = [s, numbers = c.inputs](const Numbers& dy, const Numbers& dstate) {
    return on_the_tape(s, numbers, dy, dstate);
  };
  // A phase's error grows by a rounding a step, and is 2π times that in radians.
  c.terms = double(8 * s.T + s.N);
  return c;
}

TEST(Phases, ValuesAndEveryGradient) {
  for (const Mamba3& s : {Mamba3{1, 1, 1, 1, 2, 1, 1}, Mamba3{2, 3, 2, 1, 6, 1, 1},
                          Mamba3{2, 4, 4, 2, 5, 1, 2}, Mamba3{1, 7, 2, 2, 40, 1, 19}}) {
    SCOPED_TRACE(std::to_string(s.T) + " steps, keys of " + std::to_string(s.N));
    const ScanCase c = make_case(s);
    expect_values(c);
    expect_every_gradient(c, false);
    expect_every_gradient(c, true);
  }
}

TEST(Phases, LongChunks) {
  const ScanCase c = make_case({2, 70, 4, 2, 24, 1, 6});
  expect_values(c);
  expect_gradients_along_directions(c, true);
}

// After a million steps a phase is as good as at the start.
TEST(Phases, KeepTheirPlaceOnLongStreams) {
  constexpr int64_t kSteps = 1 << 20;
  Floats rate(kSteps, 0.5f), delta(kSteps, 0.25f), phase(1, 0.0f);  // a sixteenth of a turn, exactly
  Tape tape;
  tape.start(false);
  StateVar state{tape.leaf(phase.data(), 1, 1), {}};
  Var y = phases(tape, tape.leaf(rate.data(), kSteps, 1), tape.leaf(delta.data(), kSteps, 1),
                 {.B = 1, .T = kSteps}, state);
  EXPECT_EQ(y.value()[15] - std::round(y.value()[15]), 0.0f);
  EXPECT_EQ(y.value()[kSteps - 2], -0.0625f);
  EXPECT_EQ(phase[0], 0.0f);
}

}  // namespace
}  // namespace brood
