// The normalisations of ops.h.
#include "brood/autograd/kernel_rows.h"
#include "brood/autograd/ops.h"
#include "brood/base/error.h"
#include "brood/kernels/norm.h"

namespace brood {

Var rms_norm(Tape& tape, Var x, Parameter& weight, float eps) {
  const int64_t rows = x.rows(), cols = x.cols(), parts = weight.size() / cols;
  BROOD_ASSERT(x.contiguous() && weight.size() == parts * cols);
  Var y = tape.make(rows, cols, true);
  float* rstd = tape.recording() ? tape.arena().floats(rows) : nullptr;
  if (parts == 1) {
    kernels::rms_norm_forward(rows, cols, x.value(), weight.value.f32(), eps, y.value(), rstd);
  } else {
    for (int64_t r = 0; r < rows; ++r)
      kernels::rms_norm_forward(1, cols, x.value() + r * cols, weight.value.f32() + r % parts * cols, eps,
                                y.value() + r * cols, rstd ? rstd + r : nullptr);
  }
  tape.use(weight);
  tape.record(y, [&tape, &weight, x, y, rstd, rows, cols, parts] {
    const float *dy = tape.gradient(y), *w = weight.value.f32();
    float *dx = gradient_or_null(tape, x), *dw = tape.sink().gradient(weight);
    if (parts == 1) {
      kernels::rms_norm_backward(rows, cols, x.value(), w, rstd, dy, dx, dw);
    } else {
      for (int64_t r = 0; r < rows; ++r)
        kernels::rms_norm_backward(1, cols, x.value() + r * cols, w + r % parts * cols, rstd + r,
                                   dy + r * cols, dx ? dx + r * cols : nullptr, dw + r % parts * cols);
    }
    tape.sink().finished(weight);
  });
  return y;
}

Var layer_norm(Tape& tape, Var x, float eps) {
  BROOD_ASSERT(x.contiguous());
  Var y = tape.make(x.rows(), x.cols(), x.needs_gradient());
  float* rstd = tape.recording() ? tape.arena().floats(x.rows()) : nullptr;
  kernels::layer_norm_forward(x.rows(), x.cols(), x.value(), eps, y.value(), rstd);
  tape.record(y, [&tape, x, y, rstd] {
    kernels::layer_norm_backward(x.rows(), x.cols(), y.value(), rstd, tape.gradient(y), tape.gradient(x));
  });
  return y;
}

Var layer_norm(Tape& tape, Var x, Parameter& weight, Parameter& bias, float eps) {
  const int64_t rows = x.rows(), cols = x.cols(), parts = weight.size() / cols;
  BROOD_ASSERT(x.contiguous() && weight.size() == parts * cols && bias.size() == weight.size());
  Var y = tape.make(rows, cols, true);
  float* moments = tape.recording() ? tape.arena().floats(2 * rows) : nullptr;
  kernels::affine_layer_norm_forward(rows, cols, parts, x.value(), weight.value.f32(), bias.value.f32(), eps,
                                     y.value(), moments);
  for (Parameter* p : {&weight, &bias}) tape.use(*p);
  tape.record(y, [&tape, &weight, &bias, x, y, moments, rows, cols, parts] {
    kernels::affine_layer_norm_backward(rows, cols, parts, x.value(), weight.value.f32(), moments,
                                        tape.gradient(y), gradient_or_null(tape, x),
                                        tape.sink().gradient(weight), tape.sink().gradient(bias));
    for (Parameter* p : {&weight, &bias}) tape.sink().finished(*p);
  });
  return y;
}

}  // namespace brood
