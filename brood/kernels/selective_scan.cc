// The scan forward. States of a task stay in the first-level cache while its steps pass. What binds it is the
// exponential, one for every element.
#include "brood/kernels/selective_scan.h"

#include <algorithm>

#include "brood/base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/selective_scan.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/selective_scan-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_SELECTIVE_SCAN_FEW_STEPS_
#define BROOD_KERNELS_SELECTIVE_SCAN_FEW_STEPS_
namespace brood::kernels {

// A step or three (decoding, live learning) offer only their channels to fill the processor's pipelines with.
constexpr int64_t kFewSteps = 3;
constexpr int64_t kTaskChannelsOfFewSteps = 256;
constexpr int64_t kTileSize = std::max(kScanCheckpoint * kTaskChannels, kFewSteps* kTaskChannelsOfFewSteps);

inline int64_t task_channels(const SelectiveScan& s) {
  return s.T <= kFewSteps ? kTaskChannelsOfFewSteps : kTaskChannels;
}

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

// Δ, Δx and D x of the steps from `row`.
void prepare_tile(const SelectiveScan& s, int64_t row, int64_t steps, int64_t begin, int64_t width,
                  ScanTile<kTileSize>& tile) {
  const int64_t stride = task_channels(s);
  over_channels(width, [&](auto d, int64_t i) HWY_ATTR {
    const int64_t c = begin + i;
    const auto bias = hn::LoadU(d, s.delta_bias + c), skip = hn::LoadU(d, s.D + c);
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t at = t * stride + i;
      const auto x = hn::LoadU(d, s.x + (row + t) * s.C + c);
      const auto delta = Softplus(d, hn::Add(hn::LoadU(d, s.delta + (row + t) * s.C + c), bias));
      hn::StoreU(delta, d, tile.delta + at);
      hn::StoreU(hn::Mul(delta, x), d, tile.dx + at);
      hn::StoreU(hn::Mul(skip, x), d, tile.y + at);
    }
  });
}

void write_tile(const SelectiveScan& s, int64_t row, int64_t steps, int64_t begin, int64_t width,
                const ScanTile<kTileSize>& tile, float* y) {
  const int64_t stride = task_channels(s);
  over_channels(width, [&](auto d, int64_t i) HWY_ATTR {
    for (int64_t t = 0; t < steps; ++t) {
      auto out = hn::LoadU(d, tile.y + t * stride + i);
      if (s.z != nullptr) {
        const auto z = hn::LoadU(d, s.z + (row + t) * s.z_stride + begin + i);
        out = hn::Div(hn::Mul(out, z), hn::Add(hn::Set(d, 1.0f), Exp(d, hn::Neg(z))));  // y∘silu(z)
      }
      hn::StoreU(out, d, y + (row + t) * s.C + begin + i);
    }
  });
}

// Rows lie C numbers apart, too far for the processor to guess the next one.
HWY_INLINE void prefetch_step(const SelectiveScan& s, int64_t row, int64_t c, const float* y) {
  hwy::Prefetch(s.x + row * s.C + c);
  hwy::Prefetch(s.delta + row * s.C + c);
  if (s.z != nullptr) hwy::Prefetch(s.z + row * s.z_stride + c);
  hwy::Prefetch(y + row * s.C + c);
}

// All steps of stream b for the channels [begin, end). States are brought together in h: rows C numbers apart
// fall on few sets of the cache, and a load behind a store that is a multiple of 4096 bytes away waits for
// it.
void scan_forward(const SelectiveScan& s, int64_t b, int64_t begin, int64_t end, float* y, float* h_out,
                  float* checkpoints) {
  HWY_ALIGN float h_near[kScanMaxStates * kTaskChannels];
  HWY_ALIGN float a_near[kScanMaxStates * kTaskChannels];
  ScanTile<kTileSize> tile;
  const int64_t width = end - begin, stride = task_channels(s);
  ConstStates before{s.h_in + b * s.N * s.C + begin, s.C};
  ConstStates A{s.A + begin, s.C};
  const States h_end{h_out + b * s.N * s.C + begin, s.C};
  States h = h_end;
  if (s.T > kFewSteps) {
    copy_rows(s.N, width, A.data, A.stride, a_near, stride);
    A = {a_near, stride};
    h = {h_near, stride};
  }
  for (int64_t k = 0; k < tiles_of_stream(s); ++k) {
    const int64_t row = b * s.T + k * kScanCheckpoint;
    const int64_t steps = std::min(kScanCheckpoint, s.T - k * kScanCheckpoint);
    if (checkpoints != nullptr) {
      float* checkpoint = checkpoints + (b * tiles_of_stream(s) + k) * s.N * s.C + begin;
      copy_rows(s.N, width, before.data, before.stride, checkpoint, s.C);
    }
    prepare_tile(s, row, steps, begin, width, tile);
    const bool another = (k + 2) * kScanCheckpoint <= s.T;
    over_channels(width, [&](auto d, int64_t i) HWY_ATTR {
      ConstStates from{before.data + i, before.stride};
      for (int64_t t = 0; t < steps; ++t) {
        const int64_t at = t * stride + i;
        if (another) prefetch_step(s, row + t + kScanCheckpoint, begin + i, y);
        advance<false>(d, s.N, {A.data + i, A.stride}, tile.delta + at, tile.dx + at,
                       s.input + (row + t) * s.bc_stride, s.output + (row + t) * s.bc_stride, from,
                       {h.data + i, h.stride}, tile.y + at, nullptr, nullptr, 0);
        from = {h.data + i, h.stride};
      }
    });
    before = {h.data, h.stride};
    write_tile(s, row, steps, begin, width, tile, y);
  }
  if (s.T > kFewSteps) copy_rows(s.N, width, h_near, stride, h_end.data, h_end.stride);
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(scan_forward);

int64_t selective_scan_checkpoint_size(const SelectiveScan& s) {
  return s.B * tiles_of_stream(s) * s.N * s.C;
}

void selective_scan_forward(const SelectiveScan& s, float* y, float* h_out, float* checkpoints) {
  BROOD_ASSERT(s.N >= 1 && s.N <= kScanMaxStates);
  const auto forward = HWY_DYNAMIC_DISPATCH(scan_forward);
  for_every_scan_task(s, task_channels(s), [&](int64_t b, int64_t begin, int64_t end) {
    forward(s, b, begin, end, y, h_out, checkpoints);
  });
}

}  // namespace brood::kernels
#endif
