#include "brood/autograd/delta_scan.h"

#include "brood/autograd/kernel_rows.h"
#include "brood/base/error.h"
#include "brood/kernels/delta_scan.h"

namespace brood {

Var delta_scan(Tape& tape, const DeltaScanInputs& in, int64_t heads, const Chunk& chunk, StateVar& state) {
  const int64_t N = in.k.cols() / heads, P = in.v.cols() / heads;
  for (Var keys : {in.q, in.k, in.a, in.b})
    BROOD_ASSERT(keys.rows() == chunk.rows() && keys.cols() == heads * N);
  BROOD_ASSERT(in.v.rows() == chunk.rows() && in.v.cols() == heads * P);
  BROOD_ASSERT(in.w.rows() == chunk.rows() && (in.w.cols() == heads * N || in.w.cols() == heads));
  BROOD_ASSERT(state.in.rows() == chunk.B && state.in.cols() == heads * N * P && state.in.contiguous());
  const kernels::DeltaScan scan{.B = chunk.B,
                                .T = chunk.T,
                                .H = heads,
                                .N = N,
                                .P = P,
                                .q = rows_of(in.q),
                                .k = rows_of(in.k),
                                .v = rows_of(in.v),
                                .w = rows_of(in.w),
                                .a = rows_of(in.a),
                                .b = rows_of(in.b),
                                .w_per_head = in.w.cols() == heads,
                                .s_in = state.in.value()};
  const bool recording = tape.recording();
  Var y = tape.make(chunk.rows(), heads * P, true);
  state.out = recording ? tape.make(chunk.B, heads * N * P, true) : state.in;
  float* kept = recording ? tape.arena().floats(kernels::delta_scan_kept_size(scan)) : nullptr;
  kernels::delta_scan_forward(scan, {y.value(), y.stride()}, state.out.value(), kept);
  tape.record(y, state.out, [&tape, in, scan, y, kept, start = state.in, end = state.out] {
    const kernels::DeltaScanGradients gradients{.q = gradient_rows(tape, in.q),
                                                .k = gradient_rows(tape, in.k),
                                                .v = gradient_rows(tape, in.v),
                                                .w = gradient_rows(tape, in.w),
                                                .a = gradient_rows(tape, in.a),
                                                .b = gradient_rows(tape, in.b),
                                                .s_in = gradient_or_null(tape, start)};
    kernels::delta_scan_backward(scan, kept, {tape.gradient(y), y.stride()}, end.node()->gradient, gradients);
  });
  return y;
}

}  // namespace brood
