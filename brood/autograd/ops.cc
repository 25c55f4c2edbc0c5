#include "brood/autograd/ops.h"

#include <cmath>

#include "brood/kernels/activation.h"
#include "brood/kernels/attention.h"
#include "brood/kernels/bias.h"
#include "brood/kernels/conv.h"
#include "brood/kernels/loss.h"
#include "brood/kernels/matmul.h"
#include "brood/kernels/selective_scan.h"
#include "brood/kernels/step_size.h"

namespace brood {

using kernels::Order;

namespace {

// Where backward may add to the gradient of v, or null when v needs none.
float* gradient_or_null(Tape& tape, Var v) { return v.needs_gradient() ? tape.gradient(v) : nullptr; }

}  // namespace

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

Var relu(Tape& tape, Var x) {
  BROOD_ASSERT(x.contiguous());
  Var y = tape.make(x.rows(), x.cols(), x.needs_gradient());
  kernels::relu(x.size(), x.value(), y.value());
  tape.record(
      y, [&tape, x, y] { kernels::relu_backward(x.size(), x.value(), tape.gradient(y), tape.gradient(x)); });
  return y;
}

Var silu(Tape& tape, Var x) {
  BROOD_ASSERT(x.contiguous());
  Var y = tape.make(x.rows(), x.cols(), x.needs_gradient());
  kernels::silu(x.size(), x.value(), y.value());
  tape.record(
      y, [&tape, x, y] { kernels::silu_backward(x.size(), x.value(), tape.gradient(y), tape.gradient(x)); });
  return y;
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

namespace {

Var conv_silu(Tape& tape, Var x, Parameter& weight, Parameter* bias, const Chunk& chunk, StateVar& state) {
  const int64_t C = x.cols(), width = weight.value.shape()[1];
  BROOD_ASSERT(weight.value.shape()[0] == C && state.in.cols() == (width - 1) * C);
  BROOD_ASSERT(bias == nullptr || bias->size() == C);
  const kernels::CausalConv conv{.B = chunk.B,
                                 .T = chunk.T,
                                 .C = C,
                                 .width = width,
                                 .silu = true,
                                 .x = x.value(),
                                 .x_stride = x.stride(),
                                 .state_in = state.in.value(),
                                 .weight = weight.value.f32(),
                                 .bias = bias ? bias->value.f32() : nullptr};
  const bool recording = tape.recording();
  Var y = tape.make(chunk.rows(), C, true);
  state.out = recording ? tape.make(chunk.B, state.in.cols(), true) : state.in;
  float* pre = recording ? tape.arena().floats(y.size()) : nullptr;
  kernels::causal_conv_forward(conv, y.value(), pre, state.out.value());
  tape.use(weight);
  if (bias) tape.use(*bias);
  tape.record(y, state.out, [&tape, &weight, bias, conv, x, y, pre, in = state.in, out = state.out] {
    float* scratch = tape.arena().floats(kernels::causal_conv_scratch(conv));
    kernels::causal_conv_backward(conv, pre, tape.gradient(y), out.node()->gradient,
                                  gradient_or_null(tape, x), x.stride(), tape.sink().gradient(weight),
                                  bias ? tape.sink().gradient(*bias) : nullptr, gradient_or_null(tape, in),
                                  scratch);
    tape.sink().finished(weight);
    if (bias) tape.sink().finished(*bias);
  });
  return y;
}

}  // namespace

Var causal_conv_silu(Tape& tape, Var x, Parameter& weight, Parameter& bias, const Chunk& chunk,
                     StateVar& state) {
  return conv_silu(tape, x, weight, &bias, chunk, state);
}
Var causal_conv_silu(Tape& tape, Var x, Parameter& weight, const Chunk& chunk, StateVar& state) {
  return conv_silu(tape, x, weight, nullptr, chunk, state);
}

Var selective_scan(Tape& tape, Var x, Var delta, Parameter& dt_bias, Parameter& a_log,
                   const float* a_transposed, Var input, Var output, Parameter& d, Var z, const Chunk& chunk,
                   StateVar& state) {
  const int64_t C = x.cols(), N = input.cols();
  BROOD_ASSERT(x.contiguous() && delta.contiguous() && input.stride() == output.stride());
  BROOD_ASSERT(a_log.size() == C * N && state.in.cols() == N * C);
  const kernels::SelectiveScan scan{.B = chunk.B,
                                    .T = chunk.T,
                                    .C = C,
                                    .N = N,
                                    .x = x.value(),
                                    .delta = delta.value(),
                                    .delta_bias = dt_bias.value.f32(),
                                    .A = a_transposed,
                                    .input = input.value(),
                                    .output = output.value(),
                                    .bc_stride = input.stride(),
                                    .D = d.value.f32(),
                                    .z = z ? z.value() : nullptr,
                                    .z_stride = z ? z.stride() : 0,
                                    .h_in = state.in.value()};
  const bool recording = tape.recording();
  Var y = tape.make(chunk.rows(), C, true);
  state.out = recording ? tape.make(chunk.B, N * C, true) : state.in;
  float* checkpoints =
      recording ? tape.arena().floats(kernels::selective_scan_checkpoint_size(scan)) : nullptr;
  kernels::selective_scan_forward(scan, y.value(), state.out.value(), checkpoints);
  for (Parameter* p : {&dt_bias, &a_log, &d}) tape.use(*p);
  tape.record(y, state.out,
              [&tape, &dt_bias, &a_log, &d, scan, x, delta, input, output, z, y, checkpoints, in = state.in,
               out = state.out] {
                Arena& arena = tape.arena();
                const int64_t C = scan.C, N = scan.N;
                float* dA = arena.zeros(N * C);
                const kernels::SelectiveScanGradients gradients{.x = gradient_or_null(tape, x),
                                                                .delta = gradient_or_null(tape, delta),
                                                                .delta_bias = tape.sink().gradient(dt_bias),
                                                                .A = dA,
                                                                .input = gradient_or_null(tape, input),
                                                                .output = gradient_or_null(tape, output),
                                                                .bc_stride = input.stride(),
                                                                .D = tape.sink().gradient(d),
                                                                .z = z ? gradient_or_null(tape, z) : nullptr,
                                                                .z_stride = z ? z.stride() : 0,
                                                                .h_in = gradient_or_null(tape, in)};
                float* scratch = arena.floats(kernels::selective_scan_backward_scratch(scan));
                kernels::selective_scan_backward(scan, checkpoints, tape.gradient(y), out.node()->gradient,
                                                 gradients, scratch);
                // A = −exp(a_log), so dA/da_log = A; the kernel's layout is [N][C], the parameter's [C][N].
                float* da_log = tape.sink().gradient(a_log);
                for (int64_t c = 0; c < C; ++c)
                  for (int64_t n = 0; n < N; ++n) da_log[c * N + n] += dA[n * C + c] * scan.A[n * C + c];
                for (Parameter* p : {&dt_bias, &a_log, &d}) tape.sink().finished(*p);
              });
  return y;
}

Var rotary(Tape& tape, Var x, int64_t heads, const Chunk& chunk, float theta) {
  const int64_t head_dim = x.cols() / heads;
  int64_t* positions = tape.arena().allocate_array<int64_t>(chunk.B);
  std::memcpy(positions, chunk.positions, size_t(chunk.B) * sizeof(int64_t));
  Var y = tape.make(x.rows(), x.cols(), x.needs_gradient());
  kernels::rotary(chunk.B, chunk.T, heads, head_dim, positions, theta, false, x.value(), x.stride(),
                  y.value(), y.stride());
  tape.record(y, [&tape, x, y, heads, head_dim, positions, theta, B = chunk.B, T = chunk.T] {
    // A rotation's transpose is its inverse.
    float* back = tape.arena().floats(y.size());
    kernels::rotary(B, T, heads, head_dim, positions, theta, true, tape.gradient(y), y.stride(), back,
                    y.stride());
    float* dx = tape.gradient(x);
    for (int64_t r = 0; r < x.rows(); ++r)
      kernels::add_to(x.cols(), back + r * y.cols(), dx + r * x.stride());
  });
  return y;
}

Var multi_query_attention(Tape& tape, Var q, Var k, Var v, int64_t heads, float* key_cache,
                          float* value_cache, int64_t capacity, const int64_t* filled, int64_t window,
                          const Chunk& chunk) {
  const int64_t head_dim = k.cols(), B = chunk.B, T = chunk.T;
  BROOD_ASSERT(q.contiguous() && q.cols() == heads * head_dim);
  int64_t* start = tape.arena().allocate_array<int64_t>(B);
  for (int64_t b = 0; b < B; ++b) {
    BROOD_ASSERT(filled[b] + T <= capacity);
    start[b] = filled[b];
    for (int64_t t = 0; t < T; ++t) {
      const int64_t row = (b * capacity + filled[b] + t) * head_dim, r = b * T + t;
      std::memcpy(key_cache + row, k.value() + r * k.stride(), size_t(head_dim) * sizeof(float));
      std::memcpy(value_cache + row, v.value() + r * v.stride(), size_t(head_dim) * sizeof(float));
    }
  }
  const kernels::Attention attention{.B = B,
                                     .T = T,
                                     .heads = heads,
                                     .head_dim = head_dim,
                                     .q = q.value(),
                                     .q_stride = q.stride(),
                                     .keys = key_cache,
                                     .values = value_cache,
                                     .cache_stride = capacity * head_dim,
                                     .start = start,
                                     .window = window};
  Var y = tape.make(chunk.rows(), q.cols(), true);
  float* log_sum = tape.recording() ? tape.arena().floats(chunk.rows() * heads) : nullptr;
  kernels::attention_forward(attention, y.value(), log_sum);
  tape.record(y, [&tape, attention, q, k, v, y, log_sum] {
    float* dk = tape.arena().zeros(k.size());
    float* dv = tape.arena().zeros(v.size());
    float* scratch = tape.arena().floats(kernels::attention_backward_scratch(attention));
    kernels::attention_backward(attention, y.value(), log_sum, tape.gradient(y), tape.gradient(q), q.stride(),
                                dk, dv, scratch);
    float *gk = tape.gradient(k), *gv = tape.gradient(v);
    for (int64_t r = 0; r < k.rows(); ++r) {
      kernels::add_to(k.cols(), dk + r * k.cols(), gk + r * k.stride());
      kernels::add_to(v.cols(), dv + r * v.cols(), gv + r * v.stride());
    }
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
