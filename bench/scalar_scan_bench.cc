// What the scalar scan costs at the shape of a layer of Mamba-2 130M: the recurrence, the chunk form at
// several chunk lengths, and backward. per_element: of B·T·heads·N·P.
#include <benchmark/benchmark.h>

#include "bench/setup.h"
#include "brood/kernels/scalar_scan.h"

namespace brood::kernels {
namespace {

using bench::Memory;
using bench::with_threads;

constexpr int64_t kHeads = 24, kP = 64, kN = 128;

// v, k and q are columns of one matrix, as the convolution leaves them.
struct Layer : Memory {
  const int64_t T, chunk, width = kHeads * kP + 2 * kN;
  float* xbc = draw(T * width, -1, 1);
  float* y = arena.zeros(T * kHeads * kP);
  float* dy = draw(T * kHeads * kP, -1, 1);
  float* state_out = arena.floats(kHeads * kN * kP);
  ScalarScan scan{.B = 1,
                  .T = T,
                  .heads = kHeads,
                  .groups = 1,
                  .P = kP,
                  .N = kN,
                  .v = xbc,
                  .v_stride = width,
                  .k = xbc + kHeads * kP,
                  .k_stride = width,
                  .q = xbc + kHeads * kP + kN,
                  .q_stride = width,
                  .log_decay = draw(T * kHeads, -0.5, -0.001),
                  .log_decay_stride = kHeads,
                  .weight = draw(T * kHeads, 0.001, 0.1),
                  .weight_stride = kHeads,
                  .skip = draw(kHeads, 0.5, 1.5),
                  .skip_stride = 0,
                  .state_in = draw(kHeads * kN * kP, -1, 1),
                  .chunk = chunk};
  float* scratch = arena.floats(scalar_scan_scratch(scan));
  float* checkpoints = arena.floats(scalar_scan_checkpoint_size(scan));
  Layer(int64_t steps, int64_t chunk_length) : T(steps), chunk(chunk_length) {}
};

void report(benchmark::State& state, const ScalarScan& s) {
  using benchmark::Counter;
  state.counters["per_element"] =
      Counter(double(s.T * s.heads * s.N * s.P), Counter::kIsIterationInvariantRate | Counter::kInvert);
  state.counters["tokens/s"] = Counter(double(s.T), Counter::kIsIterationInvariantRate);
}

void Recurrence(benchmark::State& state) {
  with_threads(state, state.range(1));
  Layer l(state.range(0), kScalarScanChunk);
  for (auto _ : state) scalar_scan_recurrence(l.scan, l.y, l.state_out);
  report(state, l.scan);
}

void Chunks(benchmark::State& state) {
  with_threads(state, state.range(2));
  Layer l(state.range(0), state.range(1));
  for (auto _ : state) scalar_scan_forward(l.scan, l.y, l.state_out, nullptr, l.scratch);
  report(state, l.scan);
}

void ChunksRecording(benchmark::State& state) {
  with_threads(state, state.range(2));
  Layer l(state.range(0), state.range(1));
  for (auto _ : state) scalar_scan_forward(l.scan, l.y, l.state_out, l.checkpoints, l.scratch);
  report(state, l.scan);
}

void Backward(benchmark::State& state) {
  with_threads(state, state.range(2));
  Layer l(state.range(0), state.range(1));
  scalar_scan_forward(l.scan, l.y, l.state_out, l.checkpoints, l.scratch);
  float *dxbc = l.arena.zeros(l.T * l.width), *per_step = l.arena.zeros(2 * l.T * kHeads);
  float *dskip = l.arena.zeros(kHeads), *scratch = l.arena.floats(scalar_scan_backward_scratch(l.scan));
  const ScalarScanGradients g{.v = dxbc,
                              .v_stride = l.width,
                              .k = dxbc + kHeads * kP,
                              .k_stride = l.width,
                              .q = dxbc + kHeads * kP + kN,
                              .q_stride = l.width,
                              .log_decay = per_step,
                              .log_decay_stride = kHeads,
                              .weight = per_step + l.T * kHeads,
                              .weight_stride = kHeads,
                              .skip = dskip,
                              .skip_stride = 0,
                              .state_in = nullptr};
  for (auto _ : state)
    scalar_scan_backward(l.scan, l.y, l.state_out, l.checkpoints, l.dy, nullptr, g, scratch);
  report(state, l.scan);
}

void chunk_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "chunk", "threads"})->UseRealTime()->MinTime(0.2);
  for (int64_t threads : {1, 2})
    for (int64_t chunk : {16, 32, 48, 64}) bench->Args({1024, chunk, threads});
}

void few_steps(benchmark::internal::Benchmark* bench) {
  for (int64_t T : {1, 4, 8, 16}) bench->Args({T, 1});
}

BENCHMARK(Recurrence)
    ->ArgNames({"T", "threads"})
    ->UseRealTime()
    ->MinTime(0.2)
    ->Apply(few_steps)
    ->Args({1, 2})
    ->Args({1024, 1})
    ->Args({1024, 2});
BENCHMARK(Chunks)->Apply(chunk_shapes)->Args({4, 32, 1})->Args({8, 32, 1})->Args({16, 32, 1});
BENCHMARK(ChunksRecording)->Apply(chunk_shapes);
BENCHMARK(Backward)->Apply(chunk_shapes);

}  // namespace
}  // namespace brood::kernels

BENCHMARK_MAIN();
