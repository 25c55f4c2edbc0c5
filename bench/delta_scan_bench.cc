// What the delta scan costs, by step and head (forward and backward), at the sizes of a 0.1 B RWKV-7: 12
// heads of 64 keys and 64 values. T = 1 is decoding; "layers" is how many layers' states take turns, so that
// a state is found where decoding a whole model finds it.
#include <benchmark/benchmark.h>

#include <cmath>

#include "bench/setup.h"
#include "brood/kernels/delta_scan.h"

namespace brood::kernels {
namespace {

using bench::Memory;
using bench::with_threads;

struct Problem : Memory {
  int64_t T, H, N, P, layers;
  int64_t keys = H * N, values = H * P, state_size = H * N * P;
  float unit = 1 / std::sqrt(float(N));
  float *q = draw(T * keys, -1, 1), *k = draw(T * keys, -unit, unit), *v = draw(T * values, -1, 1),
        *w = draw(T * keys, 0.6f, 0.999f), *a = draw(T * keys, -unit, unit), *b = draw(T * keys, -unit, unit),
        *s = draw(layers * state_size, -1, 1), *y = draw(T * values, 0, 1);
  Problem(const benchmark::State& s, int64_t layers_)
      : T(s.range(0)), H(s.range(1)), N(s.range(2)), P(s.range(3)), layers(layers_) {}
  DeltaScan scan(const float* s_in) const {
    return {1, T, H, N, P, {q, keys}, {k, keys}, {v, values}, {w, keys}, {a, keys}, {b, keys}, false, s_in};
  }
};

void report_per_step(benchmark::State& state, const Problem& p) {
  state.counters["per_step_and_head"] = benchmark::Counter(
      double(p.T * p.H), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

// In place, as decoding and evaluation run it.
void DeltaForward(benchmark::State& state) {
  with_threads(state, state.range(5));
  Problem p(state, state.range(4));
  int64_t layer = 0;
  for (auto _ : state) {
    float* s = p.s + layer * p.state_size;
    delta_scan_forward(p.scan(s), {p.y, p.values}, s, nullptr);
    layer = (layer + 1) % p.layers;
  }
  report_per_step(state, p);
}

void DeltaBackward(benchmark::State& state) {
  with_threads(state, state.range(5));
  Problem p(state, 1);
  const DeltaScan scan = p.scan(p.s);
  float *s_out = p.draw(p.state_size, 0, 1), *kept = p.arena.floats(delta_scan_kept_size(scan));
  delta_scan_forward(scan, {p.y, p.values}, s_out, kept);
  const auto keys = [&] { return Rows{p.arena.zeros(p.T * p.keys), p.keys}; };
  const DeltaScanGradients gradients{keys(),
                                     keys(),
                                     {p.arena.zeros(p.T * p.values), p.values},
                                     keys(),
                                     keys(),
                                     keys(),
                                     p.arena.zeros(p.state_size)};
  for (auto _ : state) delta_scan_backward(scan, kept, {p.v, p.values}, s_out, gradients);
  report_per_step(state, p);
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "heads", "keys", "values", "layers", "threads"})->UseRealTime()->MinTime(0.1);
  for (int64_t threads : {1, 2})
    for (int64_t T : {1, 16, 1024}) bench->Args({T, 12, 64, 64, 1, threads});
}

BENCHMARK(DeltaForward)
    ->Apply(shapes)
    ->Args({1, 12, 64, 64, 12, 1})
    ->Args({1, 12, 64, 64, 12, 2})
    ->Args({256, 4, 256, 512, 1, 1});
BENCHMARK(DeltaBackward)->Apply(shapes)->Args({256, 4, 256, 512, 1, 1});

}  // namespace
}  // namespace brood::kernels

BENCHMARK_MAIN();
