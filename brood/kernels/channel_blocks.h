// How scans whose channels do not meet share out their work: by blocks of channels, whole cache lines of
// floats, so that no two tasks write to the same line.
#pragma once

#include <algorithm>
#include <cstdint>

#include "brood/base/threads.h"

namespace brood::kernels {

constexpr int64_t kChannelBlock = 16;

// task(b, begin, end) for every stream b and every `block` of the C channels; by the pool where that pays,
// else at once.
template <class Task>
void for_every_channel_block(int64_t streams, int64_t C, int64_t block, bool pays, const Task& task) {
  const int64_t blocks = (C + block - 1) / block;
  const auto one = [&](int64_t i) {
    const int64_t begin = i % blocks * block;
    task(i / blocks, begin, std::min(begin + block, C));
  };
  if (pays) return parallel(streams * blocks, one);
  for (int64_t i = 0; i < streams * blocks; ++i) one(i);
}

}  // namespace brood::kernels
