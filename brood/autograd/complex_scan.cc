#include "brood/autograd/complex_scan.h"

#include "brood/autograd/kernel_rows.h"
#include "brood/base/error.h"
#include "brood/kernels/complex_scan.h"

namespace brood {

Var complex_scan(Tape& tape, Var u, Var A, Var input, Var output, Parameter& d, const Chunk& chunk,
                 StateVar& state) {
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
  state.out = recording ? tape.make(chunk.B, 2 * N * C, true) : state.in;
  float* kept = recording ? tape.arena().floats(kernels::complex_scan_kept_size(scan)) : nullptr;
  kernels::complex_scan_forward(scan, {y.value(), y.stride()}, state.out.value(), kept);
  tape.use(d);
  tape.record(
      y, state.out, [&tape, &d, scan, u, A, input, output, y, kept, start = state.in, end = state.out] {
        kernels::complex_scan_backward(scan, kept, {tape.gradient(y), y.stride()}, end.node()->gradient,
                                       {.u = gradient_rows(tape, u),
                                        .A = gradient_or_null(tape, A),
                                        .input = gradient_or_null(tape, input),
                                        .output = gradient_or_null(tape, output),
                                        .D = tape.sink().gradient(d),
                                        .h_in = gradient_or_null(tape, start)});
        tape.sink().finished(d);
      });
  return y;
}

}  // namespace brood
