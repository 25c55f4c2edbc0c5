// Elementwise operations, rows brought to a length, and rows plus a bias.
#include <cmath>

#include "brood/autograd/kernel_rows.h"
#include "brood/autograd/ops.h"
#include "brood/base/error.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/bias.h"
#include "brood/kernels/norm.h"
#include "brood/kernels/step_size.h"

namespace brood {

namespace {

// Which of the two a backward wants to see.
enum class Keeps { kInput, kOutput };

// y = forward(x), number by number; backward(n, x or y, dy, dx) adds to dx.
Var elementwise(Tape& tape, Var x, void (*forward)(int64_t, const float*, float*),
                void (*backward)(int64_t, const float*, const float*, float*), Keeps keeps) {
  BROOD_ASSERT(x.contiguous());
  Var y = tape.make(x.rows(), x.cols(), x.needs_gradient());
  forward(x.size(), x.value(), y.value());
  const float* kept = keeps == Keeps::kInput ? x.value() : y.value();
  tape.record(
      y, [&tape, x, y, kept, backward] { backward(x.size(), kept, tape.gradient(y), tape.gradient(x)); });
  return y;
}

// exp is its own slope.
void exp_backward(int64_t n, const float* y, const float* dy, float* dx) {
  kernels::mul_backward(n, y, y, dy, dx, nullptr);
}

}  // namespace

Var relu(Tape& tape, Var x) {
  return elementwise(tape, x, kernels::relu, kernels::relu_backward, Keeps::kInput);
}
Var silu(Tape& tape, Var x) {
  return elementwise(tape, x, kernels::silu, kernels::silu_backward, Keeps::kInput);
}
Var gelu(Tape& tape, Var x) {
  return elementwise(tape, x, kernels::gelu, kernels::gelu_backward, Keeps::kInput);
}
Var sigmoid(Tape& tape, Var x) {
  return elementwise(tape, x, kernels::sigmoid, kernels::sigmoid_backward, Keeps::kOutput);
}
Var tanh(Tape& tape, Var x) {
  return elementwise(tape, x, kernels::tanh, kernels::tanh_backward, Keeps::kOutput);
}
Var exp(Tape& tape, Var x) { return elementwise(tape, x, kernels::exp, exp_backward, Keeps::kOutput); }

Var squared_relu(Tape& tape, Var x) {
  const Var awake = relu(tape, x);
  return mul(tape, awake, awake);
}

Var swiglu(Tape& tape, Var gate, Var up) {
  BROOD_ASSERT(gate.contiguous() && up.contiguous() && gate.size() == up.size());
  Var y = tape.make(gate.rows(), gate.cols(), true);
  kernels::swiglu(y.size(), gate.value(), up.value(), y.value());
  tape.record(y, [&tape, gate, up, y] {
    kernels::swiglu_backward(y.size(), gate.value(), up.value(), tape.gradient(y), tape.gradient(gate),
                             tape.gradient(up));
  });
  return y;
}

Var softplus(Tape& tape, Var x, Parameter& bias) {
  BROOD_ASSERT(bias.size() == x.cols());
  Var y = tape.make(x.rows(), x.cols(), true);
  kernels::softplus(x.rows(), x.cols(), x.value(), x.stride(), bias.value.f32(), y.value());
  tape.use(bias);
  tape.record(y, [&tape, &bias, x, y] {
    kernels::softplus_backward(x.rows(), x.cols(), x.value(), x.stride(), bias.value.f32(), tape.gradient(y),
                               gradient_or_null(tape, x), tape.sink().gradient(bias));
    tape.sink().finished(bias);
  });
  return y;
}

Var decay_rates(Tape& tape, Var x, Parameter& a_log) {
  BROOD_ASSERT(x.contiguous() && a_log.size() == x.cols());
  Var y = tape.make(x.rows(), x.cols(), true);
  kernels::decay_rates(x.rows(), x.cols(), x.value(), a_log.value.f32(), y.value());
  tape.use(a_log);
  tape.record(y, [&tape, &a_log, x, y] {
    kernels::decay_rates_backward(x.rows(), x.cols(), y.value(), a_log.value.f32(), tape.gradient(y),
                                  gradient_or_null(tape, x), tape.sink().gradient(a_log));
    tape.sink().finished(a_log);
  });
  return y;
}

Var dropout(Tape& tape, Var x, float rate, uint64_t seed) {
  if (rate == 0) return x;
  BROOD_ASSERT(x.contiguous());
  Var y = tape.make(x.rows(), x.cols(), x.needs_gradient());
  kernels::dropout(x.size(), seed, rate, x.value(), y.value());
  tape.record(y, [&tape, x, y, rate, seed] {
    float* masked = tape.arena().floats(x.size());
    kernels::dropout(x.size(), seed, rate, tape.gradient(y), masked);
    kernels::add_to(x.size(), masked, tape.gradient(x));
  });
  return y;
}

Var heavy_tail(Tape& tape, Var x, float least) {
  BROOD_ASSERT(x.contiguous());
  Var y = tape.make(x.rows(), x.cols(), x.needs_gradient());
  kernels::heavy_tail(x.size(), x.value(), least, y.value());
  tape.record(y, [&tape, x, y, least] {
    kernels::heavy_tail_backward(x.size(), y.value(), least, tape.gradient(y), tape.gradient(x));
  });
  return y;
}

Var scale(Tape& tape, Var x, float factor) {
  BROOD_ASSERT(x.contiguous());
  Var y = tape.make(x.rows(), x.cols(), x.needs_gradient());
  std::memcpy(y.value(), x.value(), size_t(x.size()) * sizeof(float));
  kernels::scale(y.size(), factor, y.value());
  tape.record(y, [&tape, x, y, factor] {
    kernels::add_scaled(x.size(), factor, tape.gradient(y), tape.gradient(x));
  });
  return y;
}

Var scale_heads(Tape& tape, Var x, Var factor) {
  const int64_t rows = factor.size(), cols = x.cols() / factor.cols();
  BROOD_ASSERT(x.contiguous() && factor.contiguous());
  BROOD_ASSERT(x.rows() == factor.rows() && x.cols() == factor.cols() * cols);
  Var y = tape.make(x.rows(), x.cols(), x.needs_gradient() || factor.needs_gradient());
  kernels::scale_rows(rows, cols, x.value(), factor.value(), y.value());
  tape.record(y, [&tape, x, factor, y, rows, cols] {
    kernels::scale_rows_backward(rows, cols, x.value(), factor.value(), tape.gradient(y),
                                 gradient_or_null(tape, x), gradient_or_null(tape, factor));
  });
  return y;
}

Var dot_heads(Tape& tape, Var a, Var b, int64_t heads) {
  const int64_t rows = a.rows() * heads, cols = a.cols() / heads;
  BROOD_ASSERT(a.contiguous() && b.contiguous() && a.cols() == heads * cols);
  BROOD_ASSERT(a.rows() == b.rows() && a.cols() == b.cols());
  Var y = tape.make(a.rows(), heads, a.needs_gradient() || b.needs_gradient());
  kernels::dot_rows(rows, cols, a.value(), b.value(), y.value());
  tape.record(y, [&tape, a, b, y, rows, cols] {
    const float* dy = tape.gradient(y);
    if (a.needs_gradient()) kernels::add_scaled_rows(rows, cols, b.value(), dy, tape.gradient(a));
    if (b.needs_gradient()) kernels::add_scaled_rows(rows, cols, a.value(), dy, tape.gradient(b));
  });
  return y;
}

Var add_bias(Tape& tape, Var x, Parameter& bias) {
  const int64_t rows = x.rows(), cols = x.cols();
  BROOD_ASSERT(x.contiguous() && bias.size() == cols);
  Var y = tape.make(rows, cols, true);
  std::memcpy(y.value(), x.value(), size_t(x.size()) * sizeof(float));
  kernels::add_row(rows, cols, bias.value.f32(), y.value());
  tape.use(bias);
  tape.record(y, [&tape, &bias, x, y, rows, cols] {
    kernels::sum_rows(rows, cols, tape.gradient(y), tape.sink().gradient(bias));
    tape.sink().finished(bias);
    if (x.needs_gradient()) kernels::add_to(x.size(), tape.gradient(y), tape.gradient(x));
  });
  return y;
}

// With n columns this is RMSNorm of weight 1/√n: x/√n / sqrt(Σx²/n + eps/n).
Var l2_norm(Tape& tape, Var x, float eps) {
  BROOD_ASSERT(x.contiguous());
  const int64_t rows = x.rows(), cols = x.cols();
  float* weight = tape.arena().floats(cols);
  for (int64_t c = 0; c < cols; ++c) weight[c] = 1.0f / std::sqrt(float(cols));
  Var y = tape.make(rows, cols, x.needs_gradient());
  float* rstd = tape.recording() ? tape.arena().floats(rows) : nullptr;
  kernels::rms_norm_forward(rows, cols, x.value(), weight, eps / float(cols), y.value(), rstd);
  tape.record(y, [&tape, x, y, weight, rstd, rows, cols] {
    kernels::rms_norm_backward(rows, cols, x.value(), weight, rstd, tape.gradient(y), tape.gradient(x),
                               nullptr);
  });
  return y;
}

}  // namespace brood
