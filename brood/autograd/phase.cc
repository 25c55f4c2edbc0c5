#include "brood/autograd/phase.h"

#include "brood/autograd/kernel_rows.h"
#include "brood/base/error.h"
#include "brood/kernels/phase.h"

namespace brood {

Var phases(Tape& tape, Var rate, Var delta, const Chunk& chunk, StateVar& state) {
  const kernels::Phases phases{.B = chunk.B,
                               .T = chunk.T,
                               .heads = delta.cols(),
                               .n = rate.cols(),
                               .rate = rows_of(rate),
                               .delta = rows_of(delta)};
  const int64_t width = phases.heads * phases.n;
  BROOD_ASSERT(rate.rows() == chunk.rows() && delta.rows() == chunk.rows());
  BROOD_ASSERT(state.in.contiguous() && state.in.rows() == chunk.B && state.in.cols() == width);
  Var y = tape.make(chunk.rows(), width, true);
  state.out = tape.recording() ? tape.make(chunk.B, width, true) : state.in;
  kernels::phases_forward(phases, state.in.value(), y.value(), state.out.value());
  tape.record(y, state.out, [&tape, phases, rate, delta, y, start = state.in, end = state.out] {
    float* scratch = tape.arena().floats(y.size());
    kernels::phases_backward(phases, tape.gradient(y), end.node()->gradient, gradient_rows(tape, rate),
                             gradient_rows(tape, delta), gradient_or_null(tape, start), scratch);
  });
  return y;
}

Var phase_rotary(Tape& tape, Var x, Parameter& bias, Var phase, int64_t heads, int64_t groups) {
  const int64_t N = x.cols() / groups;
  const kernels::PhaseRotary rotary{.rows = x.rows(),
                                    .heads = heads,
                                    .groups = groups,
                                    .N = N,
                                    .n = phase.cols() / heads,
                                    .x = rows_of(x),
                                    .bias = bias.value.f32(),
                                    .phase = phase.value()};
  BROOD_ASSERT(heads % groups == 0 && bias.size() == heads * N && phase.rows() == x.rows());
  BROOD_ASSERT(phase.contiguous() && 2 * rotary.n <= N);
  Var y = tape.make(x.rows(), heads * N, true);
  kernels::phase_rotary_forward(rotary, y.value());
  tape.use(bias);
  tape.record(y, [&tape, &bias, rotary, x, phase, y] {
    float* scratch = tape.arena().floats(y.size());
    kernels::phase_rotary_backward(rotary, y.value(), tape.gradient(y), gradient_rows(tape, x),
                                   tape.sink().gradient(bias), tape.gradient(phase), scratch);
    tape.sink().finished(bias);
  });
  return y;
}

}  // namespace brood
