#include "brood/autograd/scalar_scan.h"

#include "brood/autograd/kernel_rows.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/scalar_scan.h"

namespace brood {

namespace {

// Of an input with a number for each head, given for every step or once for all.
struct PerHead {
  const float* value;
  int64_t stride;
};

PerHead per_head(Var x, int64_t rows, int64_t heads) {
  if (!x) return {nullptr, 0};
  BROOD_ASSERT(x.cols() == heads && (x.rows() == rows || x.rows() == 1));
  return {x.value(), x.rows() == rows ? x.stride() : 0};
}

kernels::ScalarScan make_scan(const ScalarScanInputs& in, int64_t heads, int64_t groups, const Chunk& chunk,
                              Var state) {
  const int64_t rows = chunk.rows();
  BROOD_ASSERT(in.v.rows() == rows && in.k.rows() == rows && in.q.rows() == rows);
  BROOD_ASSERT(in.v.cols() % heads == 0 && in.k.cols() == in.q.cols() && in.k.cols() % groups == 0);
  const int64_t P = in.v.cols() / heads, N = in.k.cols() / groups;
  BROOD_ASSERT(state.contiguous() && state.rows() == chunk.B && state.cols() == heads * N * P);
  const PerHead log_decay = per_head(in.log_decay, rows, heads);
  const PerHead weight = per_head(in.weight, rows, heads), skip = per_head(in.skip, rows, heads);
  return {.B = chunk.B,
          .T = chunk.T,
          .heads = heads,
          .groups = groups,
          .P = P,
          .N = N,
          .v = in.v.value(),
          .v_stride = in.v.stride(),
          .k = in.k.value(),
          .k_stride = in.k.stride(),
          .q = in.q.value(),
          .q_stride = in.q.stride(),
          .log_decay = log_decay.value,
          .log_decay_stride = log_decay.stride,
          .weight = weight.value,
          .weight_stride = weight.stride,
          .skip = skip.value,
          .skip_stride = skip.stride,
          .state_in = state.value()};
}

}  // namespace

Var scalar_scan(Tape& tape, const ScalarScanInputs& in, int64_t heads, int64_t groups, const Chunk& chunk,
                StateVar& state) {
  const kernels::ScalarScan scan = make_scan(in, heads, groups, chunk, state.in);
  const bool recording = tape.recording();
  Var y = tape.make(chunk.rows(), in.v.cols(), true);
  state.out = recording ? tape.make(chunk.B, state.in.cols(), true) : state.in;
  float* checkpoints = recording ? tape.arena().floats(kernels::scalar_scan_checkpoint_size(scan)) : nullptr;
  const Arena::Mark mark = tape.arena().mark();
  kernels::scalar_scan_forward(scan, y.value(), state.out.value(), checkpoints,
                               tape.arena().floats(kernels::scalar_scan_scratch(scan)));
  tape.arena().release(mark);
  tape.record(y, state.out, [&tape, scan, in, y, checkpoints, from = state.in, to = state.out] {
    const kernels::ScalarScanGradients gradients{.v = gradient_or_null(tape, in.v),
                                                 .v_stride = in.v.stride(),
                                                 .k = gradient_or_null(tape, in.k),
                                                 .k_stride = in.k.stride(),
                                                 .q = gradient_or_null(tape, in.q),
                                                 .q_stride = in.q.stride(),
                                                 .log_decay = gradient_or_null(tape, in.log_decay),
                                                 .log_decay_stride = scan.log_decay_stride,
                                                 .weight = gradient_or_null(tape, in.weight),
                                                 .weight_stride = scan.weight_stride,
                                                 .skip = gradient_or_null(tape, in.skip),
                                                 .skip_stride = scan.skip_stride,
                                                 .state_in = gradient_or_null(tape, from)};
    const float* dy = tape.gradient(y);
    float* scratch = tape.arena().floats(kernels::scalar_scan_backward_scratch(scan));
    kernels::scalar_scan_backward(scan, y.value(), to.value(), checkpoints, dy, to.node()->gradient,
                                  gradients, scratch);
  });
  return y;
}

Var as_row(Tape& tape, Parameter& parameter) {
  Var row = tape.leaf(parameter.value.f32(), 1, parameter.size(), tape.recording());
  tape.use(parameter);
  tape.record(row, [&tape, &parameter, row] {
    kernels::add_to(row.size(), tape.gradient(row), tape.sink().gradient(parameter));
    tape.sink().finished(parameter);
  });
  return row;
}

}  // namespace brood
