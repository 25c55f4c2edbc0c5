// One step of live learning through the tape: forward, backward and update, T = 1.
//
// The net of online_by_hand_bench.cc, written with the library's operations: an embedding, 6 residual layers
// (128 → 512, ReLU, 512 → 128), a head, softmax cross entropy; 851,968 parameters, SGD. What the tape, the
// pool and the general kernels cost is the difference to the hand-written program.
#include <benchmark/benchmark.h>

#include "brood/autograd/ops.h"
#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "brood/learn/riding.h"

namespace {

using namespace brood;

constexpr int kWidth = 128, kHidden = 512, kLayers = 6, kVocab = 256;

struct Net {
  Net() {
    Random random(0);
    const auto matrix = [&](const char* name, int layer, int64_t out, int64_t in) {
      Parameter& p = store.add(fmt::format("{}.{}", name, layer), {out, in});
      random.fill_normal(p.value.f32(), p.size(), 0.5f / std::sqrt(float(in)));
      return &p;
    };
    embedding_table = matrix("embedding", 0, kVocab, kWidth);
    head = matrix("head", 0, kVocab, kWidth);
    for (int l = 0; l < kLayers; ++l) {
      up[l] = matrix("up", l, kHidden, kWidth);
      down[l] = matrix("down", l, kWidth, kHidden);
    }
  }
  Var loss(Tape& tape, int32_t token, int32_t next) {
    Var x = embedding(tape, {&token, 1}, *embedding_table);
    for (int l = 0; l < kLayers; ++l)
      x = add(tape, x, linear(tape, relu(tape, linear(tape, x, *up[l])), *down[l]));
    return cross_entropy(tape, linear(tape, x, *head), {&next, 1});
  }
  ParameterStore store;
  Parameter *embedding_table, *head, *up[kLayers], *down[kLayers];
};

void step(benchmark::State& state, bool learning) {
  ThreadPool::instance().resize(int(state.range(0)));
  Net net;
  RidingOptimiser riding({.kind = OptimiserSettings::Kind::kSgd, .learning_rate = 1e-3, .weight_decay = 0});
  Tape tape;
  Random random(1);
  int32_t token = 0;
  for (auto _ : state) {
    const int32_t next = int32_t(random.below(kVocab));
    tape.start(learning, Precision::kF32, &riding);
    Var loss = net.loss(tape, token, next);
    if (learning) {
      riding.begin_step(1e-3);
      tape.backward(loss);
    }
    benchmark::DoNotOptimize(loss.value()[0]);
    token = next;
  }
  state.counters["parameters"] = double(net.store.count());
}

BENCHMARK_CAPTURE(step, frozen, false)->Arg(1)->Arg(2)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_CAPTURE(step, learning, true)->Arg(1)->Arg(2)->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
