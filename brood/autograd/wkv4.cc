#include "brood/autograd/wkv4.h"

#include "brood/autograd/kernel_rows.h"
#include "brood/base/error.h"
#include "brood/kernels/wkv4.h"

namespace brood {

Var wkv4(Tape& tape, Var k, Var v, Parameter& log_w, Parameter& u, const Chunk& chunk, StateVar& state) {
  const int64_t C = k.cols();
  BROOD_ASSERT(k.rows() == chunk.rows() && v.rows() == chunk.rows() && v.cols() == C);
  BROOD_ASSERT(log_w.size() == C && u.size() == C);
  BROOD_ASSERT(state.in.contiguous() && state.in.rows() == chunk.B && state.in.cols() == 3 * C);
  const kernels::Wkv4 wkv{.B = chunk.B,
                          .T = chunk.T,
                          .C = C,
                          .k = rows_of(k),
                          .v = rows_of(v),
                          .log_w = log_w.value.f32(),
                          .u = u.value.f32(),
                          .s_in = state.in.value()};
  const bool recording = tape.recording();
  Var y = tape.make(chunk.rows(), C, true);
  state.out = recording ? tape.make(chunk.B, 3 * C, true) : state.in;
  float* kept = recording ? tape.arena().floats(kernels::wkv4_kept_size(wkv)) : nullptr;
  kernels::wkv4_forward(wkv, {y.value(), y.stride()}, state.out.value(), kept);
  for (Parameter* p : {&log_w, &u}) tape.use(*p);
  tape.record(y, state.out, [&tape, &log_w, &u, wkv, k, v, y, kept, start = state.in, end = state.out] {
    kernels::wkv4_backward(wkv, kept, {tape.gradient(y), y.stride()}, end.node()->gradient,
                           {.k = gradient_rows(tape, k),
                            .v = gradient_rows(tape, v),
                            .log_w = tape.sink().gradient(log_w),
                            .u = tape.sink().gradient(u),
                            .s_in = gradient_or_null(tape, start)});
    for (Parameter* p : {&log_w, &u}) tape.sink().finished(*p);
  });
  return y;
}

}  // namespace brood
