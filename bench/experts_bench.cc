// Experts: what sorting rows by expert saves against taking them one by one, and what sparse experts cost beside
// a dense feed that does as much work. 16 experts of 512 × 512, two chosen; or one dense SwiGLU 1,024 wide.
#include <benchmark/benchmark.h>

#include "brood/autograd/experts.h"
#include "brood/autograd/ops.h"
#include "brood/base/random.h"
#include "brood/base/threads.h"

namespace {

using namespace brood;

constexpr int64_t kWidth = 512, kHidden = 512, kExperts = 16, kChosen = 2;

struct Net {
  explicit Net(int64_t rows) : input(size_t(rows * kWidth)) {
    random.fill_normal(input.data(), int64_t(input.size()), 1.0f);
    set.routing = {.n_expert = kExperts, .top_k = kChosen, .renormalise = true};
    set.router = &matrix("router", kExperts, kWidth);
    set.bias = nullptr;
    for (int64_t e = 0; e < kExperts; ++e) set.experts.push_back(expert(fmt::format("{}", e), kHidden));
    dense = expert("dense", kChosen * kHidden);
  }
  Parameter& matrix(const std::string& name, int64_t out, int64_t in) {
    Parameter& p = store.add(name, {out, in});
    random.fill_normal(p.value.f32(), p.size(), 1.0f / std::sqrt(float(in)));
    return p;
  }
  Expert expert(const std::string& name, int64_t hidden) {
    return {&matrix(name + ".gate", hidden, kWidth), &matrix(name + ".up", hidden, kWidth),
            &matrix(name + ".down", kWidth, hidden)};
  }
  Var dense_feed(Tape& tape, Var x) {
    return linear(tape, swiglu(tape, linear(tape, x, *dense.gate), linear(tape, x, *dense.up)), *dense.down);
  }
  ParameterStore store;
  Random random{1};
  std::vector<float> input;
  ExpertSet set;
  Expert dense{};
};

enum class Form { kGrouped, kOneByOne, kDense };

void run(benchmark::State& state, Form form, bool backward) {
  const int64_t rows = state.range(0);
  ThreadPool::instance().resize(int(state.range(1)));
  Net net(rows);
  Tape tape;
  for (auto _ : state) {
    tape.start(backward);
    Var x = tape.leaf(net.input.data(), rows, kWidth, backward), y;
    if (form == Form::kDense) y = net.dense_feed(tape, x);
    if (form == Form::kGrouped) y = routed_feed(tape, x, net.set);
    for (int64_t r = 0; r < rows && form == Form::kOneByOne; ++r)
      y = routed_feed(tape, tape.leaf(net.input.data() + r * kWidth, 1, kWidth), net.set);
    if (backward) {
      tape.backward(y);
      for (Parameter& p : net.store.all()) p.gradient_open = false;
    }
    benchmark::DoNotOptimize(y.value()[0]);
  }
  state.SetItemsProcessed(state.iterations() * rows);
}

void arguments(benchmark::internal::Benchmark* b) {
  for (int64_t threads : {1, 2})
    for (int64_t rows : {1, 8, 64, 512}) b->Args({rows, threads});
  b->ArgNames({"rows", "threads"})->Unit(benchmark::kMicrosecond)->UseRealTime();
}

BENCHMARK_CAPTURE(run, grouped, Form::kGrouped, false)->Apply(arguments);
BENCHMARK_CAPTURE(run, one_by_one, Form::kOneByOne, false)->Apply(arguments);
BENCHMARK_CAPTURE(run, dense_of_equal_work, Form::kDense, false)->Apply(arguments);
BENCHMARK_CAPTURE(run, grouped_and_back, Form::kGrouped, true)->Apply(arguments);
BENCHMARK_CAPTURE(run, dense_of_equal_work_and_back, Form::kDense, true)->Apply(arguments);

}  // namespace

BENCHMARK_MAIN();
