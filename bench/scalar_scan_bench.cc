// What the scalar scan costs at the shape of a layer of Mamba-2 130M: the recurrence, the chunk form at
// several chunk lengths, and backward. per_element: of B·T·heads·N·P.
#include <benchmark/benchmark.h>

#include <vector>

#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "brood/kernels/scalar_scan.h"

namespace brood::kernels {
namespace {

std::vector<float> draw(Random& random, int64_t n, double low, double high) {
  std::vector<float> x(static_cast<size_t>(n));
  random.fill_uniform(x.data(), n, float(low), float(high));
  return x;
}

void with_threads(benchmark::State& state, int64_t threads) {
  ThreadPool& pool = ThreadPool::instance();
  static const int all = pool.size();
  if (threads > all)
    state.SkipWithError("fewer threads than asked for");
  else
    pool.resize(int(threads));
}

constexpr int64_t kHeads = 24, kP = 64, kN = 128;

// v, k and q are columns of one matrix, as the convolution leaves them.
struct Layer {
  int64_t T, chunk;
  Random random{1};
  int64_t width = kHeads * kP + 2 * kN;
  std::vector<float> xbc = draw(random, T*width, -1, 1), decay = draw(random, T*kHeads, -0.5, -0.001),
                     weight = draw(random, T*kHeads, 0.001, 0.1), skip = draw(random, kHeads, 0.5, 1.5),
                     state = draw(random, kHeads*kN*kP, -1, 1), y = draw(random, T*kHeads*kP, -1, 1), dy = y,
                     state_out = state;
  ScalarScan scan{.B = 1,
                  .T = T,
                  .heads = kHeads,
                  .groups = 1,
                  .P = kP,
                  .N = kN,
                  .v = xbc.data(),
                  .v_stride = width,
                  .k = xbc.data() + kHeads * kP,
                  .k_stride = width,
                  .q = xbc.data() + kHeads * kP + kN,
                  .q_stride = width,
                  .log_decay = decay.data(),
                  .log_decay_stride = kHeads,
                  .weight = weight.data(),
                  .weight_stride = kHeads,
                  .skip = skip.data(),
                  .skip_stride = 0,
                  .state_in = state.data(),
                  .chunk = chunk};
  std::vector<float> scratch = std::vector<float>(size_t(scalar_scan_scratch(scan))),
                     checkpoints = std::vector<float>(size_t(scalar_scan_checkpoint_size(scan)));
};

void report(benchmark::State& state, const ScalarScan& s) {
  using benchmark::Counter;
  state.counters["per_element"] =
      Counter(double(s.T * s.heads * s.N * s.P), Counter::kIsIterationInvariantRate | Counter::kInvert);
  state.counters["tokens/s"] = Counter(double(s.T), Counter::kIsIterationInvariantRate);
}

void Recurrence(benchmark::State& state) {
  with_threads(state, state.range(1));
  Layer l{state.range(0), kScalarScanChunk};
  for (auto _ : state) scalar_scan_recurrence(l.scan, l.y.data(), l.state_out.data());
  report(state, l.scan);
}

void Chunks(benchmark::State& state) {
  with_threads(state, state.range(2));
  Layer l{state.range(0), state.range(1)};
  for (auto _ : state) scalar_scan_forward(l.scan, l.y.data(), l.state_out.data(), nullptr, l.scratch.data());
  report(state, l.scan);
}

void ChunksRecording(benchmark::State& state) {
  with_threads(state, state.range(2));
  Layer l{state.range(0), state.range(1)};
  for (auto _ : state)
    scalar_scan_forward(l.scan, l.y.data(), l.state_out.data(), l.checkpoints.data(), l.scratch.data());
  report(state, l.scan);
}

void Backward(benchmark::State& state) {
  with_threads(state, state.range(2));
  Layer l{state.range(0), state.range(1)};
  scalar_scan_forward(l.scan, l.y.data(), l.state_out.data(), l.checkpoints.data(), l.scratch.data());
  std::vector<float> dxbc(l.xbc.size()), ddecay(l.decay.size()), dweight(l.weight.size()),
      dskip(l.skip.size()), scratch(size_t(scalar_scan_backward_scratch(l.scan)));
  const ScalarScanGradients g{.v = dxbc.data(),
                              .v_stride = l.width,
                              .k = dxbc.data() + kHeads * kP,
                              .k_stride = l.width,
                              .q = dxbc.data() + kHeads * kP + kN,
                              .q_stride = l.width,
                              .log_decay = ddecay.data(),
                              .log_decay_stride = kHeads,
                              .weight = dweight.data(),
                              .weight_stride = kHeads,
                              .skip = dskip.data(),
                              .skip_stride = 0,
                              .state_in = nullptr};
  for (auto _ : state)
    scalar_scan_backward(l.scan, l.y.data(), l.state_out.data(), l.checkpoints.data(), l.dy.data(), nullptr,
                         g, scratch.data());
  report(state, l.scan);
}

void chunk_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "chunk", "threads"})->UseRealTime()->MinTime(0.2);
  for (int64_t threads : {1, 2})
    for (int64_t chunk : {16, 32, 48, 64}) bench->Args({1024, chunk, threads});
}

BENCHMARK(Recurrence)
    ->ArgNames({"T", "threads"})
    ->UseRealTime()
    ->MinTime(0.2)
    ->Args({1024, 1})
    ->Args({1024, 2})
    ->Args({1, 1})
    ->Args({1, 2});
BENCHMARK(Chunks)->Apply(chunk_shapes)->Args({16, 16, 1})->Args({4, 16, 1});
BENCHMARK(ChunksRecording)->Apply(chunk_shapes);
BENCHMARK(Backward)->Apply(chunk_shapes);

}  // namespace
}  // namespace brood::kernels

BENCHMARK_MAIN();
