// What benches of kernels share: how many threads take part, and where their numbers lie.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>

#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "brood/tensor/arena.h"

namespace brood::bench {

// A bench that wants more threads than the machine gives is skipped.
inline void with_threads(benchmark::State& state, int64_t threads) {
  ThreadPool& pool = ThreadPool::instance();
  static const int all = pool.size();
  if (threads > all)
    state.SkipWithError("fewer threads than asked for");
  else
    pool.resize(int(threads));
}

// Memory as the tape and models have it: aligned to cache lines.
struct Memory {
  Arena arena{};
  Random random{1};
  float* draw(int64_t n, float low, float high) {
    float* x = arena.floats(n);
    random.fill_uniform(x, n, low, high);
    return x;
  }
};

}  // namespace brood::bench
