#include "brood/autograd/complex_scan.h"

#include "brood/autograd/kernel_rows.h"
#include "brood/base/error.h"
#include "brood/kernels/complex_scan.h"
#include "brood/kernels/complex_traces.h"

namespace brood {

Var complex_scan(Tape& tape, Var u, Var A, Var input, Var output, Parameter& d, const Chunk& chunk,
                 StateVar& state, StateVar* traces) {
  const int64_t C = u.cols(), N = A.rows() / 2;
  BROOD_ASSERT(u.rows() == chunk.rows() && d.size() == C);
  for (Var modes : {A, input, output})
    BROOD_ASSERT(modes.contiguous() && modes.rows() == 2 * N && modes.cols() == C);
  BROOD_ASSERT(state.in.contiguous() && state.in.rows() == chunk.B && state.in.cols() == 2 * N * C);
  const kernels::ComplexScan scan{.B = chunk.B,
                                  .T = chunk.T,
                                  .C = C,
                                  .N = N,
                                  .u = rows_of(u),
                                  .A = A.value(),
                                  .input = input.value(),
                                  .output = output.value(),
                                  .D = d.value.f32(),
                                  .h_in = state.in.value()};
  const bool recording = tape.recording();
  Var y = tape.make(chunk.rows(), C, true);
  const Var past = traces ? traces->in : Var();
  if (past) {  // before the state moves on
    BROOD_ASSERT(past.contiguous() && past.rows() == chunk.B && past.cols() == 4 * N * C);
    traces->out = recording ? tape.make(chunk.B, 4 * N * C, false) : past;
    kernels::complex_traces_forward(scan, past.value(), traces->out.value());
  }
  state.out = recording ? tape.make(chunk.B, 2 * N * C, true) : state.in;
  float* kept = recording ? tape.arena().floats(kernels::complex_scan_kept_size(scan)) : nullptr;
  kernels::complex_scan_forward(scan, {y.value(), y.stride()}, state.out.value(), kept);
  tape.use(d);
  tape.record(
      y, state.out, [&tape, &d, scan, u, A, input, output, y, kept, past, start = state.in, end = state.out] {
        float* dh_in = gradient_or_null(tape, start);
        if (past && !dh_in) dh_in = tape.arena().zeros(start.size());
        float *dA = gradient_or_null(tape, A), *dB = gradient_or_null(tape, input);
        kernels::complex_scan_backward(scan, kept, {tape.gradient(y), y.stride()}, end.node()->gradient,
                                       {.u = gradient_rows(tape, u),
                                        .A = dA,
                                        .input = dB,
                                        .output = gradient_or_null(tape, output),
                                        .D = tape.sink().gradient(d),
                                        .h_in = dh_in});
        if (past) kernels::complex_traces_backward(scan, past.value(), dh_in, dA, dB);
        tape.sink().finished(d);
      });
  return y;
}

}  // namespace brood
