#include "brood/autograd/token_shift.h"

#include "brood/autograd/kernel_rows.h"
#include "brood/base/error.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/lerp.h"

namespace brood {

Var token_shift(Tape& tape, Var x, const Chunk& chunk, StateVar& state) {
  const int64_t B = chunk.B, T = chunk.T, d = x.cols();
  BROOD_ASSERT(x.contiguous() && x.rows() == B * T);
  BROOD_ASSERT(state.in.contiguous() && state.in.rows() == B && state.in.cols() == d);
  const bool recording = tape.recording();
  Var y = tape.make(B * T, d, true);
  state.out = recording ? tape.make(B, d, true) : state.in;
  for (int64_t b = 0; b < B; ++b) {
    const float* of_x = x.value() + b * T * d;
    float* of_y = y.value() + b * T * d;
    std::memcpy(of_y, state.in.value() + b * d, size_t(d) * sizeof(float));
    std::memcpy(of_y + d, of_x, size_t((T - 1) * d) * sizeof(float));
    std::memcpy(state.out.value() + b * d, of_x + (T - 1) * d, size_t(d) * sizeof(float));
  }
  tape.record(y, state.out, [&tape, x, y, B, T, d, start = state.in, end = state.out] {
    const float *dy = tape.gradient(y), *dend = end.node()->gradient;
    float *dx = gradient_or_null(tape, x), *dstart = gradient_or_null(tape, start);
    for (int64_t b = 0; b < B; ++b) {
      const int64_t first = b * T * d;
      if (dx) kernels::add_to((T - 1) * d, dy + first + d, dx + first);
      if (dx && dend) kernels::add_to(d, dend + b * d, dx + first + (T - 1) * d);
      if (dstart) kernels::add_to(d, dy + first, dstart + b * d);
    }
  });
  return y;
}

namespace {

bool alike(Var a, Var b) {
  return a.contiguous() && b.contiguous() && a.rows() == b.rows() && a.cols() == b.cols();
}

}  // namespace

Var lerp(Tape& tape, Var x, Var z, Parameter& share) {
  BROOD_ASSERT(alike(x, z) && share.size() == x.cols());
  Var y = tape.make(x.rows(), x.cols(), true);
  kernels::lerp(x.rows(), x.cols(), x.value(), z.value(), share.value.f32(), false, y.value());
  tape.use(share);
  tape.record(y, [&tape, &share, x, z, y] {
    kernels::lerp_backward(x.rows(), x.cols(), x.value(), z.value(), share.value.f32(), false,
                           tape.gradient(y), gradient_or_null(tape, x), gradient_or_null(tape, z),
                           tape.sink().gradient(share));
    tape.sink().finished(share);
  });
  return y;
}

Var lerp(Tape& tape, Var x, Var z, Var share) {
  BROOD_ASSERT(alike(x, z) && alike(x, share));
  Var y = tape.make(x.rows(), x.cols(), true);
  kernels::lerp(x.rows(), x.cols(), x.value(), z.value(), share.value(), true, y.value());
  tape.record(y, [&tape, x, z, share, y] {
    kernels::lerp_backward(x.rows(), x.cols(), x.value(), z.value(), share.value(), true, tape.gradient(y),
                           gradient_or_null(tape, x), gradient_or_null(tape, z),
                           gradient_or_null(tape, share));
  });
  return y;
}

}  // namespace brood
