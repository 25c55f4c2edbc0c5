// The update that rides in the backward pass of y = x Wᵀ.
//
// kRows rows of W are taken together, a vector of columns at a time: each of W's vectors is read once,
// multiplied into dx for every step, updated and written back. x and dx are laid out so that what a vector of
// columns meets lies together: [slot of 16 columns][step][16]. Columns go in blocks whose x and dx stay in
// the first-level cache while all rows pass.
#include <algorithm>

#include "brood/base/error.h"
#include "brood/kernels/blocks.h"
#include "brood/kernels/optimiser.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/riding.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/adamw-inl.h"

#ifndef BROOD_KERNELS_RIDING
#define BROOD_KERNELS_RIDING
namespace brood::kernels {
namespace {

constexpr int64_t kSlot = 16;

// One linear layer on its way back, as all targets see it.
struct Riding {
  int64_t T, out, in;
  const float* dy;  // [T, out]
  const float* x;   // in slots
  float* w;
  float* m;  // null for plain descent
  float* v;
};

int64_t slots_of(int64_t in) { return (in + kSlot - 1) / kSlot; }

}  // namespace
}  // namespace brood::kernels
#endif  // BROOD_KERNELS_RIDING

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

constexpr int64_t kRows = HWY_TARGET == HWY_AVX3 ? 8 : 4;  // twice as many registers with AVX-512

// Calls body(d, j) for the vectors that cover the first `width` numbers of a slot.
template <class Body>
HWY_INLINE void over_slot(int64_t width, const Body& body) {
  const hn::CappedTag<float, kSlot> d;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t j = 0;
  for (; j + lanes <= width; j += lanes) body(d, j);
  for (; j < width; ++j) body(one, j);
}

// What AdamW will read of kCount rows, at one slot of columns: three arrays, too many streams for the
// processor to foresee. Plain descent reads one, and is faster alone.
template <int64_t kCount>
HWY_INLINE void prefetch_rows(const Riding& riding, int64_t row, int64_t column) {
  for (int64_t r = 0; r < kCount; ++r) {
    const int64_t at = (row + r) * riding.in + column;
    hwy::Prefetch(riding.w + at);
    hwy::Prefetch(riding.m + at);
    hwy::Prefetch(riding.v + at);
  }
}

// kCount rows from `row`, a vector of columns from `column`, of which x and dx (or null) are given; a fresh
// dx holds nothing yet. dy is [T][kCount]. kSteps is T where known at compile time, else 0.
template <int64_t kSteps, int64_t kCount, class D, class Update>
HWY_INLINE void ride_vector(D d, const Riding& riding, int64_t row, int64_t column, const float* dy,
                            const float* x, float* HWY_RESTRICT dx, bool fresh, const Update& update) {
  using V = hn::Vec<D>;
  const int64_t steps = kSteps != 0 ? kSteps : riding.T;
  float* w = riding.w + row * riding.in + column;
  V old[kCount], gradient[kCount];
  for (int64_t r = 0; r < kCount; ++r) {
    old[r] = hn::LoadU(d, w + r * riding.in);
    gradient[r] = hn::Zero(d);
  }
  for (int64_t t = 0; t < steps; ++t) {
    const V input = hn::LoadU(d, x + t * kSlot);
    if (dx == nullptr) {
      for (int64_t r = 0; r < kCount; ++r)
        gradient[r] = hn::MulAdd(hn::Set(d, dy[t * kCount + r]), input, gradient[r]);
      continue;
    }
    // Two sums: in one, the row's products would wait for each other longer than the processor looks ahead.
    V sum = fresh ? hn::Zero(d) : hn::LoadU(d, dx + t * kSlot), other = hn::Zero(d);
    for (int64_t r = 0; r < kCount; ++r) {
      const V factor = hn::Set(d, dy[t * kCount + r]);
      gradient[r] = hn::MulAdd(factor, input, gradient[r]);
      V& part = 2 * r < kCount ? sum : other;
      part = hn::MulAdd(factor, old[r], part);
    }
    if (kCount > 1) sum = hn::Add(sum, other);
    hn::StoreU(sum, d, dx + t * kSlot);
  }
  for (int64_t r = 0; r < kCount; ++r)
    hn::StoreU(update(d, gradient[r], old[r], (row + r) * riding.in + column), d, w + r * riding.in);
}

struct Columns {
  int64_t begin, end;
};

template <int64_t kSteps, int64_t kCount, class Update>
HWY_INLINE void ride_rows(const Riding& riding, int64_t row, int64_t end, const Columns& columns,
                          float* partial, bool fresh, const Update& update) {
  constexpr int64_t kAhead = 2 * kSlot;
  HWY_ALIGN float dy[kMostRidingSteps * kCount];
  for (int64_t t = 0; t < riding.T; ++t)
    for (int64_t r = 0; r < kCount; ++r) dy[t * kCount + r] = riding.dy[t * riding.out + row + r];
  for (int64_t column = columns.begin; column < columns.end; column += kSlot) {
    // Not beyond the block's rows: the next ones may be in another thread's cache.
    if (riding.m == nullptr) {
    } else if (column + kAhead < columns.end) {
      prefetch_rows<kCount>(riding, row, column + kAhead);
    } else if (row + 2 * kCount <= end) {
      prefetch_rows<kCount>(riding, row + kCount, columns.begin + column + kAhead - columns.end);
    }
    const float* x = riding.x + column * riding.T;
    float* dx = partial == nullptr ? nullptr : partial + column * riding.T;
    over_slot(std::min(kSlot, columns.end - column), [&](auto d, int64_t j) HWY_ATTR {
      ride_vector<kSteps, kCount>(d, riding, row, column + j, dy, x + j, dx == nullptr ? nullptr : dx + j,
                                  fresh, update);
    });
  }
}

// Rows [begin, end): writes their dy·W to partial, in slots, unless that is null, and updates them.
template <int64_t kSteps, class Update>
HWY_INLINE void ride_block(int64_t begin, int64_t end, const Riding& riding, float* partial,
                           const Update& update) {
  constexpr int64_t kNumbers = 2048;  // of x and of dx that stay in the first-level cache
  const int64_t width = std::max(kSlot, kNumbers / riding.T / kSlot * kSlot);
  for (int64_t column = 0; column < riding.in; column += width) {
    const Columns columns{column, std::min(riding.in, column + width)};
    int64_t row = begin;
    for (; row + kRows <= end; row += kRows)
      ride_rows<kSteps, kRows>(riding, row, end, columns, partial, row == begin, update);
    for (; row < end; ++row) ride_rows<kSteps, 1>(riding, row, end, columns, partial, row == begin, update);
  }
}

template <class Update>
HWY_INLINE void ride_any(int64_t begin, int64_t end, const Riding& riding, float* partial,
                         const Update& update) {
  if (riding.T == 1)
    ride_block<1>(begin, end, riding, partial, update);
  else
    ride_block<0>(begin, end, riding, partial, update);
}

void ride_sgd(int64_t begin, int64_t end, const Riding& riding, float rate, float keep, float* partial) {
  ride_any(begin, end, riding, partial, [&](auto d, auto g, auto w, int64_t) HWY_ATTR {
    return hn::NegMulAdd(g, hn::Set(d, rate), hn::Mul(w, hn::Set(d, keep)));
  });
}

void ride_adamw(int64_t begin, int64_t end, const Riding& riding, const AdamW& settings, float* partial) {
  const AdamStep step(settings);
  float *m = riding.m, *v = riding.v;
  ride_any(begin, end, riding, partial, [&](auto d, auto g, auto w, int64_t at) HWY_ATTR {
    return adamw_vector(d, step, g, w, m + at, v + at);
  });
}

// x [T, in] into slots [begin, end).
void into_slots(int64_t begin, int64_t end, int64_t T, int64_t in, const float* x, float* slots) {
  for (int64_t s = begin; s < end; ++s)
    for (int64_t t = 0; t < T; ++t)
      over_slot(std::min(kSlot, in - s * kSlot), [&](auto d, int64_t j) HWY_ATTR {
        hn::StoreU(hn::LoadU(d, x + t * in + s * kSlot + j), d, slots + (s * T + t) * kSlot + j);
      });
}

// dx [T, in] (+)= the sum of `blocks` partial sums in order, from slots [begin, end).
void sum_partials(int64_t begin, int64_t end, int64_t T, int64_t in, int64_t blocks, const float* partials,
                  bool accumulate, float* dx) {
  const int64_t size = slots_of(in) * T * kSlot;
  for (int64_t s = begin; s < end; ++s)
    for (int64_t t = 0; t < T; ++t)
      over_slot(std::min(kSlot, in - s * kSlot), [&](auto d, int64_t j) HWY_ATTR {
        float* to = dx + t * in + s * kSlot + j;
        const float* from = partials + (s * T + t) * kSlot + j;
        auto sum = accumulate ? hn::LoadU(d, to) : hn::Zero(d);
        for (int64_t block = 0; block < blocks; ++block)
          sum = hn::Add(sum, hn::LoadU(d, from + block * size));
        hn::StoreU(sum, d, to);
      });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(ride_sgd);
HWY_EXPORT(ride_adamw);
HWY_EXPORT(into_slots);
HWY_EXPORT(sum_partials);

namespace {

constexpr int64_t kMostBlocks = 16;

// Rows of W are cut in two where a second thread begins to pay (at one step from 128 kB on; and x and dx must
// come back from it, so never a few rows), and into more from 1 MB on. Numbers of blocks are even, so that
// two threads cut every matrix in the middle, as the forward product does: each half then stays in its
// thread's L2 cache from step to step.
int64_t blocks_of(int64_t T, int64_t out, int64_t in) {
  const int64_t weights = out * in;
  if (weights * (T + 3) < 131072 || out < 64) return 1;
  return std::min({out, kMostBlocks, std::max<int64_t>(2, weights / 131072 * 2)});
}

int64_t slotted(int64_t T, int64_t in) { return slots_of(in) * T * kSlot; }

template <class Work>
void over_slots(int64_t T, int64_t in, const Work& work) {
  parallel_blocks(slots_of(in), std::max<int64_t>(1, kBlock / (T * kSlot)), work);
}

// update(begin, end, riding, partial) on each block of rows of W, then the sum of the partial sums into dx.
template <class Update>
void ride(Riding riding, float* dx, bool accumulate, float* scratch, const Update& update) {
  const int64_t T = riding.T, out = riding.out, in = riding.in;
  BROOD_ASSERT(T >= 1 && T <= kMostRidingSteps);
  const int64_t blocks = blocks_of(T, out, in), size = slotted(T, in);
  if (T > 1) {
    float* slots = scratch + blocks * size;
    over_slots(T, in, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(into_slots)(begin, end, T, in, riding.x, slots);
    });
    riding.x = slots;
  }
  parallel(blocks, [&](int64_t block) {
    float* partial = dx == nullptr ? nullptr : scratch + block * size;
    update(out * block / blocks, out * (block + 1) / blocks, riding, partial);
  });
  if (dx == nullptr) return;
  over_slots(T, in, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(sum_partials)(begin, end, T, in, blocks, scratch, accumulate, dx);
  });
}

}  // namespace

int64_t linear_backward_scratch(int64_t T, int64_t out, int64_t in) {
  return (blocks_of(T, out, in) + 1) * slotted(T, in);
}

void linear_backward_sgd(int64_t T, int64_t out, int64_t in, const float* dy, const float* x, float lr,
                         float decay, float* w, float* dx, bool accumulate, float* scratch) {
  ride({T, out, in, dy, x, w, nullptr, nullptr}, dx, accumulate, scratch,
       [&](int64_t begin, int64_t end, const Riding& riding, float* partial) {
         HWY_DYNAMIC_DISPATCH(ride_sgd)(begin, end, riding, lr, 1.0f - lr * decay, partial);
       });
}

void linear_backward_adamw(int64_t T, int64_t out, int64_t in, const float* dy, const float* x,
                           const AdamW& step, float* w, float* m, float* v, float* dx, bool accumulate,
                           float* scratch) {
  ride({T, out, in, dy, x, w, m, v}, dx, accumulate, scratch,
       [&](int64_t begin, int64_t end, const Riding& riding, float* partial) {
         HWY_DYNAMIC_DISPATCH(ride_adamw)(begin, end, riding, step, partial);
       });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
