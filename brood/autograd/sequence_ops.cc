// The operations of ops.h that look along time: convolution, Mamba's scan, rotary positions, attention.
#include "brood/autograd/kernel_rows.h"
#include "brood/autograd/ops.h"
#include "brood/base/error.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/attention.h"
#include "brood/kernels/conv.h"
#include "brood/kernels/selective_scan.h"
#include "brood/kernels/selective_traces.h"

namespace brood {

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
                   StateVar& state, const SelectiveTraces* traces) {
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
  const Var past = traces ? traces->state.in : Var();  // the traces of the state before
  Parameter* const w = past ? traces->weight : nullptr;
  const kernels::LowRank low =
      w ? kernels::LowRank{traces->low.cols(), rows_of(traces->low)} : kernels::LowRank{};
  if (past) {  // before the state moves on
    BROOD_ASSERT(past.rows() == chunk.B && past.cols() == (2 + low.rank) * N * C &&
                 (!w || w->size() == C * low.rank));
    traces->state.out = recording ? tape.make(chunk.B, past.cols(), false) : past;
    kernels::selective_traces_forward(scan, low, past.value(), traces->state.out.value());
    if (w) tape.use(*w);
  }
  state.out = recording ? tape.make(chunk.B, N * C, true) : state.in;
  float* checkpoints =
      recording ? tape.arena().floats(kernels::selective_scan_checkpoint_size(scan)) : nullptr;
  kernels::selective_scan_forward(scan, y.value(), state.out.value(), checkpoints);
  for (Parameter* p : {&dt_bias, &a_log, &d}) tape.use(*p);
  tape.record(y, state.out,
              [&tape, &dt_bias, &a_log, &d, scan, x, delta, input, output, z, y, checkpoints, past, w, low,
               in = state.in, out = state.out] {
                Arena& arena = tape.arena();
                const int64_t C = scan.C, N = scan.N;
                float *dA = arena.zeros(N * C), *dh_in = gradient_or_null(tape, in);
                if (past && !dh_in) dh_in = arena.zeros(in.size());
                const kernels::SelectiveScanGradients gradients{.x = gradient_or_null(tape, x),
                                                                .delta = gradient_or_null(tape, delta),
                                                                .delta_bias = tape.sink().gradient(dt_bias),
                                                                .A = dA,
                                                                .input = gradient_or_null(tape, input),
                                                                .output = gradient_or_null(tape, output),
                                                                .bc_stride = input.stride(),
                                                                .D = tape.sink().gradient(d),
                                                                .z = gradient_or_null(tape, z),
                                                                .z_stride = z ? z.stride() : 0,
                                                                .h_in = dh_in};
                float* scratch = arena.floats(kernels::selective_scan_backward_scratch(scan));
                kernels::selective_scan_backward(scan, checkpoints, tape.gradient(y), out.node()->gradient,
                                                 gradients, scratch);
                if (past)
                  kernels::selective_traces_backward(scan, low, past.value(), dh_in, dA, gradients.delta_bias,
                                                     w ? tape.sink().gradient(*w) : nullptr);
                if (w) tape.sink().finished(*w);
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

}  // namespace brood
