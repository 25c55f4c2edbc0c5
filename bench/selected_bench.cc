// Selected neurons at decoding: a step of four gated feeds, 1,024 → 4,096 → 1,024, with a given percentage of
// neurons awake, beside the same feeds computed densely. Weights of 200 MB: what counts is how few are read.
#include <benchmark/benchmark.h>

#include <algorithm>

#include "brood/autograd/selected.h"
#include "brood/base/random.h"
#include "brood/base/threads.h"

namespace {

using namespace brood;

constexpr int64_t kWidth = 1024, kNeurons = 4096, kLayers = 4;

struct Layer {
  Parameter *gate, *up, *down, *down_across;  // down_across: [width, neurons], as a dense feed has it
};

struct Net {
  Net() : x(size_t(kWidth)) {
    random.fill_uniform(x.data(), kWidth, 0.0f, 1.0f);
    for (int64_t i = 0; i < kLayers; ++i) {
      const auto add = [&](const char* name, int64_t out, int64_t in, float low) {
        Parameter& p = store.add(fmt::format("{}.{}", name, i), {out, in});
        random.fill_uniform(p.value.f32(), p.size(), low / float(in), 1.0f / float(in));
        return &p;
      };
      // A gate and an input above 0 everywhere: without a threshold all neurons are awake.
      layers.push_back({add("gate", kNeurons, kWidth, 0), add("up", kNeurons, kWidth, -1),
                        add("down", kNeurons, kWidth, -1), add("across", kWidth, kNeurons, -1)});
    }
  }
  // Above it are `percent` of the first layer's neurons, and of the others' about as many.
  float threshold(int64_t percent) {
    Tape tape;
    tape.start(false);
    const Var g = linear(tape, tape.leaf(x.data(), 1, kWidth), *layers[0].gate);
    std::vector<float> order(g.value(), g.value() + kNeurons);
    std::sort(order.begin(), order.end());
    return percent == 100 ? 0.0f : order[size_t(kNeurons - kNeurons * percent / 100)];
  }
  ParameterStore store;
  Random random{1};
  std::vector<float> x;
  std::vector<Layer> layers;
  NeuronSpace space{1, std::span(&kNeurons, 1), kWidth};
};

Net& net() {
  static Net all;
  return all;
}

void selected(benchmark::State& state) {
  ThreadPool::instance().resize(int(state.range(1)));
  const float threshold = net().threshold(state.range(0));
  Tape tape;
  int64_t awake = 0, steps = 0;
  for (auto _ : state) {
    tape.start(false, Precision(state.range(2)));
    const Var x = tape.leaf(net().x.data(), 1, kWidth);
    for (const Layer& layer : net().layers) {
      net().space.begin_layer(tape);
      const Neurons g = awaken(tape, net().space, x, *layer.gate, threshold, Sparsity::kAuto);
      benchmark::DoNotOptimize(selected_sum(tape, net().space, g, x, *layer.up, *layer.down).value()[0]);
      awake += g.awake;
    }
    ++steps;
  }
  state.counters["awake"] = double(awake) / double(steps * kLayers * kNeurons);
}

void dense(benchmark::State& state) {
  ThreadPool::instance().resize(int(state.range(1)));
  Tape tape;
  for (auto _ : state) {
    tape.start(false, Precision(state.range(2)));
    const Var x = tape.leaf(net().x.data(), 1, kWidth);
    for (const Layer& layer : net().layers) {
      const Var g = relu(tape, linear(tape, x, *layer.gate));
      const Var y = linear(tape, mul(tape, g, linear(tape, x, *layer.up)), *layer.down_across);
      benchmark::DoNotOptimize(y.value()[0]);
    }
  }
}

void precisions_and_threads(benchmark::internal::Benchmark* b, std::initializer_list<int64_t> percents) {
  for (int64_t half : {0, 1})
    for (int64_t threads : {1, 2})
      for (int64_t percent : percents) b->Args({percent, threads, half});
  b->ArgNames({"percent", "threads", "bf16"})->Unit(benchmark::kMicrosecond)->UseRealTime();
}

BENCHMARK(selected)->Apply([](auto* b) { precisions_and_threads(b, {5, 10, 25, 50, 100}); });
BENCHMARK(dense)->Apply([](auto* b) { precisions_and_threads(b, {100}); });

}  // namespace

BENCHMARK_MAIN();
