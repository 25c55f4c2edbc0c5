// Norms, activations, the causal convolution, the loss and the optimisers, at the sizes of a live step (a few
// rows of 128 to 512) and of a training step (thousands of rows of 768).
//
// bytes_per_second counts every array once for each time that it is read or written.
#include <benchmark/benchmark.h>

#include <vector>

#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/conv.h"
#include "brood/kernels/loss.h"
#include "brood/kernels/norm.h"
#include "brood/kernels/optimiser.h"

namespace {

using namespace brood;
using Floats = std::vector<float>;

Floats normals(int64_t n) {
  Floats x(static_cast<size_t>(n));
  Random(1).fill_normal(x.data(), n, 1.0f);
  return x;
}

// Arguments: threads, rows, columns.
struct Sizes {
  int64_t rows, cols;
  explicit Sizes(const benchmark::State& state) : rows(state.range(1)), cols(state.range(2)) {
    ThreadPool::instance().resize(int(state.range(0)));
  }
  int64_t numbers() const { return rows * cols; }
  void report(benchmark::State& state, int64_t floats_moved) const {
    state.SetBytesProcessed(state.iterations() * floats_moved * int64_t(sizeof(float)));
  }
};

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"threads", "rows", "cols"})->UseRealTime();
  for (int threads : {1, 2})
    for (auto [rows, cols] : {std::pair{1, 128}, {1, 512}, {32, 256}, {2048, 768}}) {
      if (threads == 2 && rows < 32) continue;
      bench->Args({threads, rows, cols});
    }
}

void rms_norm(benchmark::State& state) {
  const Sizes s(state);
  const Floats x = normals(s.numbers()), weight = normals(s.cols);
  Floats y(x.size()), rstd(size_t(s.rows));
  for (auto _ : state)
    kernels::rms_norm_forward(s.rows, s.cols, x.data(), weight.data(), 1e-5f, y.data(), rstd.data());
  s.report(state, 2 * s.numbers());
}

void rms_norm_backward(benchmark::State& state) {
  const Sizes s(state);
  const Floats x = normals(s.numbers()), weight = normals(s.cols), dy = normals(s.numbers());
  Floats dx(x.size()), rstd(size_t(s.rows), 1.0f), dweight(weight.size());
  for (auto _ : state)
    kernels::rms_norm_backward(s.rows, s.cols, x.data(), weight.data(), rstd.data(), dy.data(), dx.data(),
                               dweight.data());
  s.report(state, 6 * s.numbers());
}

void layer_norm(benchmark::State& state) {
  const Sizes s(state);
  const Floats x = normals(s.numbers());
  Floats y(x.size()), rstd(size_t(s.rows));
  for (auto _ : state) kernels::layer_norm_forward(s.rows, s.cols, x.data(), 1e-5f, y.data(), rstd.data());
  s.report(state, 2 * s.numbers());
}

void layer_norm_backward(benchmark::State& state) {
  const Sizes s(state);
  const Floats y = normals(s.numbers()), dy = normals(s.numbers());
  Floats dx(y.size()), rstd(size_t(s.rows), 1.0f);
  for (auto _ : state)
    kernels::layer_norm_backward(s.rows, s.cols, y.data(), rstd.data(), dy.data(), dx.data());
  s.report(state, 4 * s.numbers());
}

void swiglu(benchmark::State& state) {
  const Sizes s(state);
  const Floats gate = normals(s.numbers()), up = gate;
  Floats y(gate.size());
  for (auto _ : state) kernels::swiglu(s.numbers(), gate.data(), up.data(), y.data());
  s.report(state, 3 * s.numbers());
}

void swiglu_backward(benchmark::State& state) {
  const Sizes s(state);
  const Floats gate = normals(s.numbers()), up = gate, dy = gate;
  Floats dgate(gate.size()), dup(gate.size());
  for (auto _ : state)
    kernels::swiglu_backward(s.numbers(), gate.data(), up.data(), dy.data(), dgate.data(), dup.data());
  s.report(state, 7 * s.numbers());
}

void cross_entropy(benchmark::State& state) {
  const Sizes s(state);
  const Floats logits = normals(s.numbers());
  const std::vector<int32_t> targets(size_t(s.rows), 3);
  const Floats ones(size_t(s.rows), 1.0f);
  Floats loss(size_t(s.rows)), log_sum(size_t(s.rows)), dlogits(logits.size());
  for (auto _ : state) {
    kernels::cross_entropy_forward(s.rows, s.cols, logits.data(), targets.data(), loss.data(),
                                   log_sum.data());
    kernels::cross_entropy_backward(s.rows, s.cols, logits.data(), targets.data(), log_sum.data(),
                                    ones.data(), dlogits.data());
  }
  s.report(state, 4 * s.numbers());
}

struct Conv {
  Floats x, state, weight, bias;
  kernels::CausalConv conv;
  explicit Conv(const Sizes& s)
      : x(normals(s.numbers())),
        state(normals(3 * s.cols)),
        weight(normals(4 * s.cols)),
        bias(normals(s.cols)),
        conv{1, s.rows, s.cols, 4, true, x.data(), s.cols, state.data(), weight.data(), bias.data()} {}
};

void conv(benchmark::State& state) {
  const Sizes s(state);
  Conv c(s);
  Floats y(c.x.size()), pre(c.x.size());
  for (auto _ : state) kernels::causal_conv_forward(c.conv, y.data(), pre.data(), c.state.data());
  s.report(state, 3 * s.numbers());
}

void conv_backward(benchmark::State& state) {
  const Sizes s(state);
  Conv c(s);
  const Floats pre = normals(s.numbers()), dy = normals(s.numbers());
  Floats dx(c.x.size()), dweight(c.weight.size()), dbias(c.bias.size()), dstate(c.state.size());
  Floats scratch(size_t(kernels::causal_conv_scratch(c.conv)));
  for (auto _ : state)
    kernels::causal_conv_backward(c.conv, pre.data(), dy.data(), nullptr, dx.data(), s.cols, dweight.data(),
                                  dbias.data(), dstate.data(), scratch.data());
  s.report(state, 5 * s.numbers());
}

BENCHMARK(rms_norm)->Apply(sizes);
BENCHMARK(rms_norm_backward)->Apply(sizes);
BENCHMARK(layer_norm)->Apply(sizes);
BENCHMARK(layer_norm_backward)->Apply(sizes);
BENCHMARK(swiglu)->Apply(sizes);
BENCHMARK(swiglu_backward)->Apply(sizes);
BENCHMARK(cross_entropy)->Apply(sizes);
BENCHMARK(conv)->Apply(sizes);
BENCHMARK(conv_backward)->Apply(sizes);

constexpr kernels::AdamW kAdamW{1e-4f, 0.9f, 0.999f, 1e-8f, 0.1f, 1, 1};

// Arguments: threads, numbers.
void adamw(benchmark::State& state) {
  ThreadPool::instance().resize(int(state.range(0)));
  const int64_t n = state.range(1);
  const Floats g = normals(n);
  Floats w = g, m = g, v(g.size(), 1.0f);
  for (auto _ : state) kernels::adamw(n, kAdamW, g.data(), 1.0f, w.data(), m.data(), v.data(), nullptr);
  state.SetBytesProcessed(state.iterations() * n * 28);
}
BENCHMARK(adamw)
    ->ArgsProduct({{1, 2}, {1 << 16, 1 << 20, 1 << 24}})
    ->ArgNames({"threads", "n"})
    ->UseRealTime();

// The way back through 6 pairs of layers 128 → 512 → 128 (786,432 parameters), the update included.
// Arguments: threads, steps of the chunk. bytes_per_second counts the parameters (and moments) read and
// written.
struct Layers {
  static constexpr int64_t kCount = 12;
  Floats w[kCount], m[kCount], v[kCount], x = normals(8 * 512), dy = normals(8 * 512), dx = x,
                                          scratch = Floats(1 << 16);
  Layers() {
    for (int i = 0; i < kCount; ++i) w[i] = normals(512 * 128), m[i] = Floats(w[i].size()), v[i] = m[i];
  }
  static int64_t out(int layer) { return layer % 2 == 0 ? 512 : 128; }
  static int64_t in(int layer) { return layer % 2 == 0 ? 128 : 512; }
};

void riding_sgd(benchmark::State& state) {
  ThreadPool::instance().resize(int(state.range(0)));
  Layers l;
  for (auto _ : state)
    for (int i = 0; i < Layers::kCount; ++i)
      kernels::linear_backward_sgd(state.range(1), l.out(i), l.in(i), l.dy.data(), l.x.data(), 1e-6f, 0,
                                   l.w[i].data(), l.dx.data(), false, l.scratch.data());
  state.SetBytesProcessed(state.iterations() * Layers::kCount * 512 * 128 * 8);
}

void riding_adamw(benchmark::State& state) {
  ThreadPool::instance().resize(int(state.range(0)));
  Layers l;
  for (auto _ : state)
    for (int i = 0; i < Layers::kCount; ++i)
      kernels::linear_backward_adamw(state.range(1), l.out(i), l.in(i), l.dy.data(), l.x.data(), kAdamW,
                                     l.w[i].data(), l.m[i].data(), l.v[i].data(), l.dx.data(), false,
                                     l.scratch.data());
  state.SetBytesProcessed(state.iterations() * Layers::kCount * 512 * 128 * 24);
}

void riding_sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgsProduct({{1, 2}, {1, 2, 4, 8}})->ArgNames({"threads", "steps"})->UseRealTime();
  bench->Unit(benchmark::kMicrosecond);
}
BENCHMARK(riding_sgd)->Apply(riding_sizes);
BENCHMARK(riding_adamw)->Apply(riding_sizes);

}  // namespace

BENCHMARK_MAIN();
