// What the scan's forward and backward share. Include after hwy/foreach_target.h.
//
// A task is one stream and up to kTaskChannels channels. It goes through the steps in tiles of
// kScanCheckpoint: first softplus for the whole tile, then the recurrence, then the gate. Within the first
// and the last every step is independent of the others; mixed into the recurrence, their long chains of
// operations would be waited for at each step.
#if defined(BROOD_KERNELS_SELECTIVE_SCAN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BROOD_KERNELS_SELECTIVE_SCAN_INL_H_
#undef BROOD_KERNELS_SELECTIVE_SCAN_INL_H_
#else
#define BROOD_KERNELS_SELECTIVE_SCAN_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "brood/base/threads.h"
#include "brood/kernels/selective_scan.h"
#include "brood/kernels/vector_math-inl.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_SELECTIVE_SCAN_TASKS_
#define BROOD_KERNELS_SELECTIVE_SCAN_TASKS_
namespace brood::kernels {

// Channels of a task: a whole number of vectors on every target. Few enough that narrow models still give
// work to several threads, and that the states of a task stay in the first-level cache.
constexpr int64_t kTaskChannels = 64;

inline int64_t tiles_of_stream(const SelectiveScan& s) {
  return (s.T + kScanCheckpoint - 1) / kScanCheckpoint;
}

// Runs task(b, first channel, end) for every stream and every `channels` channels, by the pool where that
// pays: below this many elements (B·T·C·N; some 0.2 ns each, several times that where a step of a large
// model brings its states from memory) a call is over before a second thread has helped.
template <class Task>
void for_every_scan_task(const SelectiveScan& s, int64_t channels, const Task& task) {
  constexpr int64_t kInlineElements = 16'384;
  const int64_t per_stream = (s.C + channels - 1) / channels;
  auto one = [&](int64_t i) {
    const int64_t begin = i % per_stream * channels;
    task(i / per_stream, begin, std::min(begin + channels, s.C));
  };
  const int64_t tasks = s.B * per_stream;
  if (s.B * s.T * s.C * s.N >= kInlineElements) return parallel(tasks, one);
  for (int64_t i = 0; i < tasks; ++i) one(i);
}

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

constexpr float kLog2E = 1.44269504f;

// Of the steps of a tile, for Size numbers.
template <int64_t Size>
struct ScanTile {
  HWY_ALIGN float delta[Size];
  HWY_ALIGN float dx[Size];  // Δx
  HWY_ALIGN float y[Size];   // before the gate
};

// 2^x within 3 ulp; where that is below 2^−126 the result is at most 2^−126, and x must be below 127. The
// exponential of the recurrence: with no more care than its argument ΔA <= 0 needs it takes half the
// operations of Exp(), which would bind the whole scan. The polynomials are minimax fits within 8e-8.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Power2(D d, V x) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  if constexpr (hn::MaxLanes(D()) == 16) {
    // x − floor(x), and a product with 2^floor(x) that handles every exponent, are an instruction each.
    const V f{_mm512_reduce_ps(x.raw, 0x09)};
    V p = hn::Set(d, 1.8775766734e-3f);
    p = hn::MulAdd(p, f, hn::Set(d, 8.9893400946e-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 5.5826318050e-2f));
    p = hn::MulAdd(p, f, hn::Set(d, 2.4015361705e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 6.9315307320e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
    return V{_mm512_scalef_ps(p.raw, x.raw)};
  }
#endif
  const hn::RebindToUnsigned<D> du;
  x = hn::Max(x, hn::Set(d, -126.0f));
  // Adding 1.5·2^23 rounds x to a whole number, which then stands in the low bits.
  const V rounder = hn::Set(d, 12582912.0f);
  const V shifted = hn::Add(x, rounder);
  const V f = hn::Sub(x, hn::Sub(shifted, rounder));
  V p = hn::Set(d, 1.3276471979e-3f);
  p = hn::MulAdd(p, f, hn::Set(d, 9.6755413342e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 5.5507132735e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 2.4022119724e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 6.9314696706e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  return hn::BitCast(d, hn::Add(hn::BitCast(du, p), hn::ShiftLeft<23>(hn::BitCast(du, shifted))));
}

// Calls function(d, i) for the vectors that cover channels [0, width): whole ones, then of 4 lanes, then of
// one.
template <class Function>
HWY_INLINE void over_channels(int64_t width, const Function& function) {
  const hn::CappedTag<float, 16> d;
  const hn::CappedTag<float, 4> d4;
  const hn::CappedTag<float, 1> d1;
  constexpr int64_t kLanes = int64_t(hn::MaxLanes(d)), kFew = int64_t(hn::MaxLanes(d4));
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) function(d, i);
  for (; i + kFew <= width; i += kFew) function(d4, i);
  for (; i < width; ++i) function(d1, i);
}

// N rows of `width` channels; too short for calls of memcpy.
inline void copy_rows(int64_t N, int64_t width, const float* from, int64_t from_stride, float* to,
                      int64_t to_stride) {
  for (int64_t n = 0; n < N; ++n) {
    over_channels(width, [&](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::LoadU(d, from + n * from_stride + i), d, to + n * to_stride + i);
    });
  }
}

// Where N rows of states lie.
struct States {
  float* data;
  int64_t stride;
};
struct ConstStates {
  const float* data;
  int64_t stride;
};

// h_to = exp(ΔA)∘h_from + Δx B and y += C·h for one vector of channels (the pointers are at its first). When
// kKeep, exp(ΔA) and exp(ΔA)∘h_from are left behind, N rows of kept_stride.
template <bool kKeep, class D>
HWY_INLINE void advance(D d, int64_t N, ConstStates A, const float* delta, const float* dx,
                        const float* input, const float* output, ConstStates from, States to, float* y,
                        float* decays, float* kepts, int64_t kept_stride) {
  const auto delta2 = hn::Mul(hn::LoadU(d, delta), hn::Set(d, kLog2E));
  const auto step = hn::LoadU(d, dx);
  // Two sums: the additions of one wait for each other longer than the rest of a step takes.
  auto even = hn::LoadU(d, y), odd = hn::Zero(d);
  const auto state = [&](int64_t n, auto& sum) HWY_ATTR {
    const auto decay = Power2(d, hn::Mul(delta2, hn::LoadU(d, A.data + n * A.stride)));
    const auto kept = hn::Mul(decay, hn::LoadU(d, from.data + n * from.stride));
    const auto h = hn::MulAdd(step, hn::Set(d, input[n]), kept);
    if constexpr (kKeep) {
      hn::StoreU(decay, d, decays + n * kept_stride);
      hn::StoreU(kept, d, kepts + n * kept_stride);
    }
    hn::StoreU(h, d, to.data + n * to.stride);
    sum = hn::MulAdd(h, hn::Set(d, output[n]), sum);
  };
  int64_t n = 0;
  for (; n + 2 <= N; n += 2) {
    state(n, even);
    state(n + 1, odd);
  }
  if (n < N) state(n, even);
  hn::StoreU(hn::Add(even, odd), d, y);
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_SELECTIVE_SCAN_INL_H_
