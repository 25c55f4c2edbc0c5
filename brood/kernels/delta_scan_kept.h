// Where the delta scan's forward leaves what its backward needs, and how both are shared out to threads.
#pragma once

#include <cstdint>

#include "brood/base/threads.h"
#include "brood/kernels/delta_scan.h"

namespace brood::kernels {

inline int64_t delta_tiles(const DeltaScan& s) { return (s.T + kDeltaCheckpoint - 1) / kDeltaCheckpoint; }

// The offset of the state before tile 1, 2, … (that before tile 0 is s_in), [N][P].
inline int64_t kept_delta_state(const DeltaScan& s, int64_t b, int64_t h, int64_t tile) {
  return ((b * s.H + h) * (delta_tiles(s) - 1) + tile - 1) * s.N * s.P;
}

// The offset of sa of a row and head, P numbers.
inline int64_t kept_delta_read(const DeltaScan& s, int64_t row, int64_t h) {
  return s.B * s.H * (delta_tiles(s) - 1) * s.N * s.P + (row * s.H + h) * s.P;
}

// task(b, h) for every stream and head, by the pool where that pays: below inline_elements (B·T·H·N·P) a call
// is over before a second thread has helped.
template <class Task>
void for_every_delta_task(const DeltaScan& s, int64_t inline_elements, const Task& task) {
  auto one = [&](int64_t i) { task(i / s.H, i % s.H); };
  if (s.B * s.T * s.H * s.N * s.P >= inline_elements) return parallel(s.B * s.H, one);
  for (int64_t i = 0; i < s.B * s.H; ++i) one(i);
}

}  // namespace brood::kernels
