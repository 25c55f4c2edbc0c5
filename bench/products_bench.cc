// Products: GFLOP/s and the share of this machine's measured peak (compute-bound shapes), GB/s of weights and
// the share of its read bandwidth (decoding), fork and join. The last number of a name is the number of
// threads.
#include <benchmark/benchmark.h>

#include <map>
#include <vector>

#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "brood/kernels/machine.h"
#include "brood/kernels/matmul.h"

namespace brood::kernels {
namespace {

std::vector<float> numbers(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  Random(1).fill_normal(x.data(), n, 1.0f);
  return x;
}

template <class T>
std::vector<T> operand(int64_t n) {
  const std::vector<float> x = numbers(n);
  std::vector<T> y(x.size());
  if constexpr (std::is_same_v<T, float>) {
    y = x;
  } else {
    convert(n, x.data(), y.data());
  }
  return y;
}

template <class T>
double peak(int threads) {
  static std::map<int, double> known;
  if (!known.count(threads))
    known[threads] = std::is_same_v<T, float> ? measure_f32_flops() : measure_bf16_flops();
  return known[threads];
}

double bandwidth(int threads) {
  static std::map<int, double> known;
  if (!known.count(threads)) known[threads] = measure_read_bandwidth();
  return known[threads];
}

enum Layout { kForward, kInputGradient, kWeightGradient };  // x·Wᵀ, dy·W, dyᵀ·x

// x is [rows, in], W is [out, in].
template <class T>
void product(benchmark::State& state, Layout layout) {
  const int64_t rows = state.range(0), out = state.range(1), in = state.range(2);
  const int threads = int(state.range(3));
  ThreadPool::instance().resize(threads);
  const auto x = operand<T>(rows * in), w = operand<T>(out * in), dy = operand<T>(rows * out);
  std::vector<float> y(size_t(std::max({rows * out, rows * in, out * in})));
  const auto P = Order::kPlain, Q = Order::kTransposed;
  for (auto _ : state) {
    if (layout == kForward)
      matmul(P, Q, rows, out, in, x.data(), in, w.data(), in, false, y.data(), out);
    else if (layout == kInputGradient)
      matmul(P, P, rows, in, out, dy.data(), out, w.data(), in, false, y.data(), in);
    else
      matmul(Q, P, out, in, rows, dy.data(), out, x.data(), in, true, y.data(), in);
    benchmark::ClobberMemory();
  }
  const double flops = 2.0 * double(rows * out * in) * double(state.iterations());
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(flops / peak<T>(threads), benchmark::Counter::kIsRate);
}

void product_f32(benchmark::State& state, Layout layout) { product<float>(state, layout); }
void product_bf16(benchmark::State& state, Layout layout) { product<Bf16>(state, layout); }

void shapes(benchmark::internal::Benchmark* bench) {
  const std::vector<std::vector<int64_t>> list = {
      {8, 64, 64},    {8, 256, 256},   {16, 256, 1024}, {32, 256, 1024},  {64, 256, 256},
      {64, 512, 512}, {128, 128, 512}, {256, 512, 512}, {512, 768, 3072}, {1024, 1024, 1024}};
  for (const int64_t threads : {1, 2})
    for (const auto& shape : list) bench->Args({shape[0], shape[1], shape[2], threads});
  bench->UseRealTime();
}

BENCHMARK_CAPTURE(product_f32, forward, kForward)->Apply(shapes);
BENCHMARK_CAPTURE(product_f32, input_gradient, kInputGradient)->Apply(shapes);
BENCHMARK_CAPTURE(product_f32, weight_gradient, kWeightGradient)->Apply(shapes);
BENCHMARK_CAPTURE(product_bf16, forward, kForward)->Apply(shapes);
BENCHMARK_CAPTURE(product_bf16, input_gradient, kInputGradient)->Apply(shapes);
BENCHMARK_CAPTURE(product_bf16, weight_gradient, kWeightGradient)->Apply(shapes);

// Decoding: `copies` weight matrices in turn, so that small ones come from L1 or L2 and many from memory.
template <class T>
void decode(benchmark::State& state) {
  const int64_t rows = state.range(0), out = state.range(1), in = state.range(2), copies = state.range(3);
  const int threads = int(state.range(4));
  ThreadPool::instance().resize(threads);
  const auto x = operand<T>(rows * in), w = operand<T>(copies * out * in);
  std::vector<float> y(static_cast<size_t>(rows * out));
  int64_t copy = 0;
  for (auto _ : state) {
    matmul(Order::kPlain, Order::kTransposed, rows, out, in, x.data(), in, w.data() + copy * out * in, in,
           false, y.data(), out);
    copy = (copy + 1) % copies;
    benchmark::ClobberMemory();
  }
  const double bytes = double(out * in * int64_t(sizeof(T))) * double(state.iterations());
  state.counters["B/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsRate);
  if (copies > 1)
    state.counters["of_bandwidth"] =
        benchmark::Counter(bytes / bandwidth(threads), benchmark::Counter::kIsRate);
}

void decode_shapes(benchmark::internal::Benchmark* bench) {
  for (const int64_t threads : {1, 2}) {
    for (const int64_t rows : {1, 4}) {
      bench->Args({rows, 128, 128, 1, threads});
      bench->Args({rows, 512, 512, 1, threads});
      bench->Args({rows, 1536, 768, 1, threads});
      bench->Args({rows, 3072, 768, 100, threads});  // 0.5-1 GB of weights
    }
  }
  bench->UseRealTime();
}

BENCHMARK(decode<float>)->Apply(decode_shapes);
BENCHMARK(decode<Bf16>)->Apply(decode_shapes);

void fork_join(benchmark::State& state) {
  ThreadPool::instance().resize(int(state.range(0)));
  for (auto _ : state) parallel(state.range(0), [](int64_t) {});
}
BENCHMARK(fork_join)->Arg(1)->Arg(2)->UseRealTime();

}  // namespace
}  // namespace brood::kernels

BENCHMARK_MAIN();
