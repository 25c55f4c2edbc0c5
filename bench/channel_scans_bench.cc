// What the scans cost whose channels do not meet: S4D's complex modes by the element (B·T·C·N of them) and
// RWKV-4's average (B·T·C), forward and backward, with one thread and with all.
#include <benchmark/benchmark.h>

#include "bench/setup.h"
#include "brood/kernels/complex_scan.h"
#include "brood/kernels/wkv4.h"

namespace brood::kernels {
namespace {

using bench::Memory;
using bench::with_threads;

void report_per_element(benchmark::State& state, int64_t elements) {
  state.counters["per_element"] = benchmark::Counter(
      double(elements), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

struct Modes : Memory {
  int64_t T, C, N, modes = 2 * N * C;
  float* state = draw(modes, -1, 1);
  ComplexScan scan{1,
                   T,
                   C,
                   N,
                   {draw(T * C, -1, 1), C},
                   draw(modes, -0.7f, 0.7f),
                   draw(modes, -1, 1),
                   draw(modes, -1, 1),
                   draw(C, -1, 1),
                   state};
  Modes(const benchmark::State& s) : T(s.range(0)), C(s.range(1)), N(s.range(2)) {}
};

void ComplexForward(benchmark::State& state) {
  with_threads(state, state.range(3));
  Modes p(state);
  float* y = p.arena.floats(p.T * p.C);
  for (auto _ : state) complex_scan_forward(p.scan, {y, p.C}, p.state, nullptr);
  report_per_element(state, p.T * p.C * p.N);
}

void ComplexBackward(benchmark::State& state) {
  with_threads(state, state.range(3));
  Modes p(state);
  float *y = p.arena.floats(p.T * p.C), *kept = p.arena.floats(complex_scan_kept_size(p.scan));
  float *end = p.arena.floats(p.modes), *dy = p.draw(p.T * p.C, -1, 1);
  complex_scan_forward(p.scan, {y, p.C}, end, kept);
  const auto zeros = [&](int64_t n) { return p.arena.zeros(n); };
  const ComplexScanGradients gradients{{zeros(p.T * p.C), p.C}, zeros(p.modes), zeros(p.modes),
                                       zeros(p.modes),          zeros(p.C),     zeros(p.modes)};
  for (auto _ : state) complex_scan_backward(p.scan, kept, {dy, p.C}, end, gradients);
  report_per_element(state, p.T * p.C * p.N);
}

struct Average : Memory {
  int64_t T, C;
  float* state = draw(3 * C, 0.5f, 1);
  Wkv4 wkv{1,    T, C, {draw(T * C, -2, 2), C}, {draw(T * C, -1, 1), C}, draw(C, -3, 0.7f), draw(C, -1, 1),
           state};
  Average(const benchmark::State& s) : T(s.range(0)), C(s.range(1)) {}
};

void Wkv4Forward(benchmark::State& state) {
  with_threads(state, state.range(2));
  Average p(state);
  float* y = p.arena.floats(p.T * p.C);
  for (auto _ : state) wkv4_forward(p.wkv, {y, p.C}, p.state, nullptr);
  report_per_element(state, p.T * p.C);
}

void Wkv4Backward(benchmark::State& state) {
  with_threads(state, state.range(2));
  Average p(state);
  float *y = p.arena.floats(p.T * p.C), *kept = p.arena.floats(wkv4_kept_size(p.wkv));
  float *end = p.arena.floats(3 * p.C), *dy = p.draw(p.T * p.C, -1, 1);
  wkv4_forward(p.wkv, {y, p.C}, end, kept);
  const auto zeros = [&](int64_t n) { return p.arena.zeros(n); };
  const Wkv4Gradients gradients{
      {zeros(p.T * p.C), p.C}, {zeros(p.T * p.C), p.C}, zeros(p.C), zeros(p.C), zeros(3 * p.C)};
  for (auto _ : state) wkv4_backward(p.wkv, kept, {dy, p.C}, end, gradients);
  report_per_element(state, p.T * p.C);
}

void complex_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "C", "N", "threads"})->UseRealTime()->MinTime(0.1);
  for (int64_t threads : {1, 2})
    for (int64_t T : {1, 16, 1024}) bench->Args({T, 256, 32, threads});
}

void average_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "C", "threads"})->UseRealTime()->MinTime(0.1);
  for (int64_t threads : {1, 2})
    for (int64_t T : {1, 16, 1024}) bench->Args({T, 768, threads});
}

BENCHMARK(ComplexForward)->Apply(complex_shapes);
BENCHMARK(ComplexBackward)->Apply(complex_shapes);
BENCHMARK(Wkv4Forward)->Apply(average_shapes);
BENCHMARK(Wkv4Backward)->Apply(average_shapes);

}  // namespace
}  // namespace brood::kernels

BENCHMARK_MAIN();
