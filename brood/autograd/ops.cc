#include "brood/autograd/ops.h"

#include "brood/autograd/kernel_rows.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/bias.h"
#include "brood/kernels/loss.h"
#include "brood/kernels/matmul.h"

namespace brood {

using kernels::Order;

Var embedding(Tape& tape, std::span<const int32_t> tokens, Parameter& table) {
  const int64_t rows = int64_t(tokens.size()), d = table.value.shape()[1];
  Var y = tape.make(rows, d, true);
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(y.value() + r * d, table.value.f32() + tokens[size_t(r)] * d, size_t(d) * sizeof(float));
  if (!tape.recording()) return y;
  int32_t* kept = tape.arena().allocate_array<int32_t>(rows);
  std::memcpy(kept, tokens.data(), tokens.size_bytes());
  tape.use(table);
  tape.record(y, [&tape, &table, y, kept, rows] { tape.sink().rows(table, rows, kept, tape.gradient(y)); });
  return y;
}

Var linear(Tape& tape, Var x, Parameter& weight) {
  const int64_t out = weight.value.shape()[0], in = weight.value.shape()[1], T = x.rows();
  BROOD_ASSERT(x.cols() == in);
  Var y = tape.make(T, out, true);
  if (tape.precision() == Precision::kBf16) {
    Bf16* half = tape.arena().allocate_array<Bf16>(T * in);
    if (x.contiguous()) {
      kernels::convert(T * in, x.value(), half);
    } else {
      for (int64_t r = 0; r < T; ++r) kernels::convert(in, x.value() + r * x.stride(), half + r * in);
    }
    kernels::matmul(Order::kPlain, Order::kTransposed, T, out, in, half, in, weight.half_value(), in, false,
                    y.value(), out);
  } else {
    kernels::matmul(Order::kPlain, Order::kTransposed, T, out, in, x.value(), x.stride(), weight.value.f32(),
                    in, false, y.value(), out);
  }
  tape.use(weight);
  tape.record(y, [&tape, &weight, x, y, T, out] {
    bool fresh = false;
    float* dx = x.needs_gradient() ? tape.gradient_slot(x, fresh) : nullptr;
    tape.sink().linear(weight, T, tape.gradient(y), out, x.value(), x.stride(), dx, x.stride(), !fresh,
                       tape.precision(), tape.arena());
  });
  return y;
}

Var linear(Tape& tape, Var x, Parameter& weight, Parameter& bias) {
  Var y = linear(tape, x, weight);
  BROOD_ASSERT(bias.size() == y.cols());
  // In place: the backward of the product does not look at y.
  kernels::add_row(y.rows(), y.cols(), bias.value.f32(), y.value());
  tape.use(bias);
  tape.record(y, [&tape, &bias, y] {
    kernels::sum_rows(y.rows(), y.cols(), tape.gradient(y), tape.sink().gradient(bias));
    tape.sink().finished(bias);
  });
  return y;
}

Var block_linear(Tape& tape, Var x, Parameter& weight, int64_t channels) {
  const int64_t c = x.cols() / channels, T = x.rows();
  BROOD_ASSERT(channels * c == x.cols() && weight.size() == x.cols() * c);
  Var y = tape.make(T, x.cols(), true);
  for (int64_t i = 0; i < channels; ++i)
    kernels::matmul(Order::kPlain, Order::kTransposed, T, c, c, x.value() + i * c, x.stride(),
                    weight.value.f32() + i * c * c, c, false, y.value() + i * c, y.stride());
  tape.use(weight);
  tape.record(y, [&tape, &weight, x, y, channels, c, T] {
    const float* dy = tape.gradient(y);
    float *dw = tape.sink().gradient(weight), *dx = gradient_or_null(tape, x);
    for (int64_t i = 0; i < channels; ++i) {
      kernels::matmul(Order::kTransposed, Order::kPlain, c, c, T, dy + i * c, y.stride(), x.value() + i * c,
                      x.stride(), true, dw + i * c * c, c);
      if (dx)
        kernels::matmul(Order::kPlain, Order::kPlain, T, c, c, dy + i * c, y.stride(),
                        weight.value.f32() + i * c * c, c, true, dx + i * c, x.stride());
    }
    tape.sink().finished(weight);
  });
  return y;
}

Var add(Tape& tape, Var a, Var b) {
  BROOD_ASSERT(a.contiguous() && b.contiguous() && a.size() == b.size());
  Var y = tape.make(a.rows(), a.cols(), a.needs_gradient() || b.needs_gradient());
  kernels::add(a.size(), a.value(), b.value(), y.value());
  tape.record(y, [&tape, a, b, y] {
    for (Var input : {a, b}) {
      if (!input.needs_gradient()) continue;
      bool fresh = false;
      float* d = tape.gradient_slot(input, fresh);
      if (fresh) {
        std::memcpy(d, tape.gradient(y), size_t(y.size()) * sizeof(float));
      } else {
        kernels::add_to(y.size(), tape.gradient(y), d);
      }
    }
  });
  return y;
}

Var mul(Tape& tape, Var a, Var b) {
  BROOD_ASSERT(a.contiguous() && b.contiguous() && a.size() == b.size());
  Var y = tape.make(a.rows(), a.cols(), a.needs_gradient() || b.needs_gradient());
  kernels::mul(a.size(), a.value(), b.value(), y.value());
  tape.record(y, [&tape, a, b, y] {
    kernels::mul_backward(y.size(), a.value(), b.value(), tape.gradient(y), gradient_or_null(tape, a),
                          gradient_or_null(tape, b));
  });
  return y;
}

Var contiguous(Tape& tape, Var x) {
  if (x.contiguous()) return x;
  const int64_t rows = x.rows(), cols = x.cols();
  Var y = tape.make(rows, cols, x.needs_gradient());
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(y.value() + r * cols, x.value() + r * x.stride(), size_t(cols) * sizeof(float));
  tape.record(y, [&tape, x, y, rows, cols] {
    float* dx = tape.gradient(x);
    for (int64_t r = 0; r < rows; ++r)
      kernels::add_to(cols, tape.gradient(y) + r * cols, dx + r * x.stride());
  });
  return y;
}

Var cross_entropy(Tape& tape, Var logits, std::span<const int32_t> targets) {
  const int64_t rows = logits.rows(), classes = logits.cols();
  BROOD_ASSERT(logits.contiguous() && int64_t(targets.size()) == rows);
  Var loss = tape.make(rows, 1, logits.needs_gradient());
  float* log_sum = tape.arena().floats(rows);
  kernels::cross_entropy_forward(rows, classes, logits.value(), targets.data(), loss.value(), log_sum);
  if (!tape.recording()) return loss;
  int32_t* kept = tape.arena().allocate_array<int32_t>(rows);
  std::memcpy(kept, targets.data(), targets.size_bytes());
  tape.record(loss, [&tape, logits, loss, kept, log_sum, rows, classes] {
    const float* scale = tape.gradient(loss);
    bool fresh = false;
    float* d = tape.gradient_slot(logits, fresh);
    if (fresh) {
      kernels::cross_entropy_backward(rows, classes, logits.value(), kept, log_sum, scale, d);
      return;
    }
    float* own = tape.arena().floats(logits.size());
    kernels::cross_entropy_backward(rows, classes, logits.value(), kept, log_sum, scale, own);
    kernels::add_to(logits.size(), own, d);
  });
  return loss;
}

}  // namespace brood
