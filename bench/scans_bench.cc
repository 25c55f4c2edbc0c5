// What the recurrent kernels cost: the selective scan by the element (B·T·C·N of them), attention in
// GFLOP/s and in GB/s of keys and values, rotary positions by the number. Each with one thread and with
// all.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "bench/setup.h"
#include "brood/base/random.h"
#include "brood/kernels/attention.h"
#include "brood/kernels/selective_scan.h"

namespace brood::kernels {
namespace {

using bench::with_threads;

std::vector<float> draw(Random& random, int64_t n, double low, double high) {
  std::vector<float> x(static_cast<size_t>(n));
  random.fill_uniform(x.data(), n, float(low), float(high));
  return x;
}

struct Scan {
  int64_t B, T, C, N;
  Random random{1};
  std::vector<float> x = draw(random, B*T*C, -1, 1), delta = draw(random, B*T*C, -5, 0),
                     bias = draw(random, C, -1, 1), A = draw(random, N*C, -16, -0.5),
                     bc = draw(random, B*T * 2 * N, -1, 1), D = draw(random, C, 0, 1),
                     z = draw(random, B*T*C, -2, 2), h = draw(random, B*N*C, -1, 1), y = x, dy = x;
  SelectiveScan scan{
      B,     T,        C,        N, x.data(), delta.data(), bias.data(), A.data(), bc.data(), bc.data() + N,
      2 * N, D.data(), z.data(), C, h.data()};
};

void report_per_element(benchmark::State& state, const SelectiveScan& s) {
  state.counters["per_element"] =
      benchmark::Counter(double(s.B * s.T * s.C * s.N),
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void ScanForward(benchmark::State& state) {
  with_threads(state, state.range(3));
  Scan p{1, state.range(0), state.range(1), state.range(2)};
  std::vector<float> h_out = p.h;
  for (auto _ : state) selective_scan_forward(p.scan, p.y.data(), h_out.data(), nullptr);
  report_per_element(state, p.scan);
}

void ScanBackward(benchmark::State& state) {
  with_threads(state, state.range(3));
  Scan p{1, state.range(0), state.range(1), state.range(2)};
  std::vector<float> h_out = p.h, checkpoints(selective_scan_checkpoint_size(p.scan)),
                     scratch(selective_scan_backward_scratch(p.scan)), dx(p.x.size()), ddelta(p.x.size()),
                     dbias(p.C), dA(p.A.size()), dbc(p.bc.size()), dD(p.C), dz(p.z.size()), dh(p.h.size());
  selective_scan_forward(p.scan, p.y.data(), h_out.data(), checkpoints.data());
  const SelectiveScanGradients g{dx.data(),        ddelta.data(), dbias.data(), dA.data(), dbc.data(),
                                 dbc.data() + p.N, 2 * p.N,       dD.data(),    dz.data(), p.C,
                                 dh.data()};
  for (auto _ : state)
    selective_scan_backward(p.scan, checkpoints.data(), p.dy.data(), p.h.data(), g, scratch.data());
  report_per_element(state, p.scan);
}

struct Cache {
  int64_t B, T, heads, head_dim, older;
  Random random{1};
  int64_t width = heads * head_dim;
  std::vector<float> q = draw(random, B*T*width, -1, 1), keys = draw(random, B*(older + T) * head_dim, -1, 1),
                     values = draw(random, B*(older + T) * head_dim, -1, 1), y = q, dy = q,
                     log_sum = std::vector<float>(size_t(B * T * heads));
  std::vector<int64_t> start = std::vector<int64_t>(size_t(B), older);
  Attention attention{B,
                      T,
                      heads,
                      head_dim,
                      q.data(),
                      width,
                      keys.data(),
                      values.data(),
                      (older + T) * head_dim,
                      start.data(),
                      std::numeric_limits<int64_t>::max()};
  double pairs() const { return double(B * heads * T) * (double(older) + double(T + 1) / 2); }
};

Cache make_cache(const benchmark::State& state) {
  return {state.range(0), state.range(1), state.range(2), state.range(3), state.range(4)};
}

void report_products(benchmark::State& state, double products_of_a_pair, const Cache& c) {
  state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * products_of_a_pair * double(c.head_dim) * c.pairs(),
                                                 benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = benchmark::Counter(8e-9 * double(c.B * (c.older + c.T) * c.head_dim),
                                              benchmark::Counter::kIsIterationInvariantRate);
}

void AttentionForward(benchmark::State& state) {
  with_threads(state, state.range(5));
  Cache c = make_cache(state);
  for (auto _ : state) attention_forward(c.attention, c.y.data(), c.log_sum.data());
  report_products(state, 2, c);
}

void AttentionBackward(benchmark::State& state) {
  with_threads(state, state.range(5));
  Cache c = make_cache(state);
  attention_forward(c.attention, c.y.data(), c.log_sum.data());
  std::vector<float> dq(c.q.size()), dk(c.keys.size()), dv(c.keys.size()),
      scratch(attention_backward_scratch(c.attention));
  for (auto _ : state)
    attention_backward(c.attention, c.y.data(), c.log_sum.data(), c.dy.data(), dq.data(), c.width, dk.data(),
                       dv.data(), scratch.data());
  report_products(state, 5, c);
}

void Rotary(benchmark::State& state) {
  with_threads(state, 1);
  const int64_t T = state.range(0), heads = state.range(1), head_dim = state.range(2);
  Random random(1);
  std::vector<float> x = draw(random, T * heads * head_dim, -1, 1), y = x;
  const int64_t position = 100'000;
  for (auto _ : state)
    rotary(1, T, heads, head_dim, &position, 10000.0f, false, x.data(), heads * head_dim, y.data(),
           heads * head_dim);
  state.counters["per_number"] = benchmark::Counter(
      double(x.size()), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void scan_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "C", "N", "threads"})->UseRealTime()->MinTime(0.2);
  for (int64_t threads : {1, 2})
    for (int64_t T : {1, 8, 64, 1024})
      for (int64_t C : {256, 1536}) bench->Args({T, C, 16, threads});
}

void attention_shapes(benchmark::internal::Benchmark* bench, bool deep) {
  bench->ArgNames({"B", "T", "heads", "head_dim", "older", "threads"})->UseRealTime()->MinTime(0.2);
  for (int64_t threads : {1, 2}) {
    bench->Args({1, 1, 4, 64, 255, threads})->Args({1, 1, 8, 64, 255, threads});
    if (deep) bench->Args({1, 1, 8, 64, 65535, threads})->Args({1, 1, 12, 64, 65535, threads});
    for (int64_t T : {8, 256, 512}) bench->Args({1, T, 12, 64, 0, threads});
    bench->Args({8, 256, 4, 64, 0, threads});
  }
}

BENCHMARK(ScanForward)->Apply(scan_shapes);
BENCHMARK(ScanBackward)->Apply(scan_shapes);
BENCHMARK(AttentionForward)->Apply([](auto* bench) { attention_shapes(bench, true); });
BENCHMARK(AttentionBackward)->Apply([](auto* bench) { attention_shapes(bench, false); });
BENCHMARK(Rotary)
    ->ArgNames({"T", "heads", "head_dim"})
    ->Args({1, 8, 64})
    ->Args({1, 1, 64})
    ->Args({256, 8, 64});

}  // namespace
}  // namespace brood::kernels

BENCHMARK_MAIN();
