// Where the scalar scan keeps what it works with: sizes, and who finds what where. Nothing here computes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "brood/base/threads.h"
#include "brood/kernels/scalar_scan.h"

namespace brood::kernels {

constexpr int64_t kPadding = 16;  // whole vectors and whole tiles of any target

inline int64_t padded_size(int64_t n) { return (n + kPadding - 1) / kPadding * kPadding; }

// Sizes of the buffers of a chunk.
struct ScalarScanSizes {
  int64_t Q, P, N;  // padded
  int64_t chunks;   // of a stream
  explicit ScalarScanSizes(const ScalarScan& s)
      : Q(std::min(s.chunk, padded_size(s.T))),
        P(padded_size(s.P)),
        N(padded_size(s.N)),
        chunks((s.T + s.chunk - 1) / s.chunk) {}
  int64_t group_floats() const { return 2 * Q * N + Q * Q; }
};

// Callers' memory may begin anywhere; ask for kPadding numbers more.
inline float* aligned_scratch(float* memory) {
  const auto at = reinterpret_cast<uintptr_t>(memory);
  return memory + (at + 63) / 64 * 16 - at / 4;
}

// What the heads of a group share of a chunk: q and k, [Q][N], and their products q_i·k_j, [Q][Q].
struct ScalarScanGroupChunk {
  float *q, *k, *products;
  ScalarScanGroupChunk(const ScalarScan& s, const ScalarScanSizes& z, float* memory, int64_t b, int64_t g,
                       int64_t c)
      : q(memory + ((b * s.groups + g) * z.chunks + c) * z.group_floats()),
        k(q + z.Q * z.N),
        products(k + z.Q * z.N) {}
};
inline int64_t group_chunks_floats(const ScalarScan& s, const ScalarScanSizes& z) {
  return s.B * s.groups * z.chunks * z.group_floats();
}

inline int64_t steps_of_chunk(const ScalarScan& s, int64_t c) { return std::min(s.chunk, s.T - c * s.chunk); }

// Forward keeps the state at the beginning of every kChunksOfCheckpoint-th chunk but the first; backward
// makes those between anew, which takes less time than to write and read them all.
constexpr int64_t kChunksOfCheckpoint = 4;
inline int64_t checkpoints_of_head(const ScalarScanSizes& z) { return (z.chunks - 1) / kChunksOfCheckpoint; }
// Where the one of chunk c begins, c a multiple of kChunksOfCheckpoint.
inline int64_t checkpoint_at(const ScalarScan& s, const ScalarScanSizes& z, int64_t b, int64_t h, int64_t c) {
  const int64_t index = c / kChunksOfCheckpoint - 1;
  return ((b * s.heads + h) * checkpoints_of_head(z) + index) * s.N * s.P;
}

// Runs task(i) for 0 <= i < n, by the pool where that pays: below this many elements (B·T·heads·N·P, some
// 0.05 ns each) a call is over before a second thread has helped.
template <class Task>
void for_scalar_scan_tasks(const ScalarScan& s, int64_t n, const Task& task) {
  constexpr int64_t kInlineElements = 150'000;
  if (s.B * s.T * s.heads * s.N * s.P >= kInlineElements) return parallel(n, task);
  for (int64_t i = 0; i < n; ++i) task(i);
}

// A step's number of a head: log decay, weight or skip.
inline float of_step(const float* x, int64_t stride, int64_t row, int64_t h, float absent) {
  return x == nullptr ? absent : x[row * stride + h];
}

constexpr int64_t kHeadsOfTask = 4;  // of one group

struct ScalarScanBackward {
  const float *y, *state_out, *checkpoints, *dy, *dstate_out;
};

// How the caller's scratch is divided; without one, how large it has to be.
struct ScalarScanBackwardMemory {
  int64_t tasks_of_group;
  float* shared;                        // GroupChunks
  float *dk, *dq;                       // [B·groups·tasks_of_group][chunks][N][Q]
  float* D;                             // [B·groups·tasks_of_group][chunks][Q][Q]
  float *dlog_decay, *dweight, *dskip;  // [heads][B·T]
  int64_t size = 0;                     // of everything
  ScalarScanBackwardMemory(const ScalarScan& s, const ScalarScanSizes& z, float* memory)
      : tasks_of_group((s.heads / s.groups + kHeadsOfTask - 1) / kHeadsOfTask) {
    const int64_t chunks = s.B * s.groups * tasks_of_group * z.chunks, steps = s.heads * s.B * s.T;
    auto take = [&](int64_t n) {
      float* at = memory == nullptr ? nullptr : memory + size;
      size += n;
      return at;
    };
    shared = take(group_chunks_floats(s, z));
    dk = take(chunks * z.N * z.Q);
    dq = take(chunks * z.N * z.Q);
    D = take(chunks * z.Q * z.Q);
    dlog_decay = take(steps);
    dweight = take(steps);
    dskip = take(steps);
  }
};

// Floats of a task's Work.
inline int64_t backward_work_floats(const ScalarScanSizes& z) {
  return 7 * z.Q * z.P + 2 * z.Q * z.Q + (1 + kChunksOfCheckpoint) * z.N * z.P;
}

}  // namespace brood::kernels
