#include "brood/autograd/channel_decay.h"

#include "brood/autograd/kernel_rows.h"
#include "brood/kernels/channel_decay.h"

namespace brood {

namespace {

Var filter(Tape& tape, Var v, const float* decay, bool slope, const Chunk& chunk, StateVar& state) {
  const int64_t C = v.cols();
  BROOD_ASSERT(v.rows() == chunk.rows() && state.in.contiguous());
  BROOD_ASSERT(state.in.rows() == chunk.B && state.in.cols() == (slope ? 2 : 1) * C);
  const kernels::ChannelDecay scan{.B = chunk.B,
                                   .T = chunk.T,
                                   .C = C,
                                   .v = v.value(),
                                   .v_stride = v.stride(),
                                   .decay = decay,
                                   .slope = slope,
                                   .state_in = state.in.value()};
  const bool recording = tape.recording();
  Var y = tape.make(v.rows(), C, true);
  state.out = recording ? tape.make(chunk.B, state.in.cols(), true) : state.in;
  float* kept = recording && slope ? tape.arena().floats(y.size()) : nullptr;
  kernels::channel_decay_forward(scan, y.value(), state.out.value(), kept);
  tape.record(y, state.out, [&tape, scan, v, y, kept, in = state.in, out = state.out] {
    kernels::channel_decay_backward(scan, y.value(), kept, tape.gradient(y), out.node()->gradient,
                                    gradient_or_null(tape, v), v.stride(), gradient_or_null(tape, in));
  });
  return y;
}

}  // namespace

Var decay_section(Tape& tape, Var v, const float* decay, const Chunk& chunk, StateVar& state) {
  return filter(tape, v, decay, false, chunk, state);
}

Var slope_section(Tape& tape, Var v, const float* decay, const Chunk& chunk, StateVar& state) {
  return filter(tape, v, decay, true, chunk, state);
}

}  // namespace brood
