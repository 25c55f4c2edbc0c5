// What the loops over neurons' rows share. Include after hwy/foreach_target.h.
//
// The columns are walked in blocks of V vectors: a block of the step (or of its sum) stays in registers while
// the rows of the list stream past. With 512-bit vectors one block is 256 columns.
#if defined(BROOD_KERNELS_NEURON_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BROOD_KERNELS_NEURON_ROWS_INL_H_
#undef BROOD_KERNELS_NEURON_ROWS_INL_H_
#else
#define BROOD_KERNELS_NEURON_ROWS_INL_H_
#endif

#include <cstdint>

#include "brood/kernels/four_vectors-inl.h"
#include "brood/kernels/neuron_rows.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

// Vectors cannot be elements of arrays on scalable targets, so sixteen of them are named.
#ifndef BROOD_EACH_VECTOR
#define BROOD_EACH_VECTOR(M) \
  M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Sixteen vectors and their company need the 32 registers that these targets lack.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR
constexpr int kWidest = 8;
#else
constexpr int kWidest = 16;
#endif
constexpr int64_t kFewSteps = 4;  // up to here rows come from far away: widest blocks, prefetch
// Rows prefetched ahead, 6 KB at 256 columns.
template <class T>
constexpr int64_t kAhead = 6 * int64_t(sizeof(float) / sizeof(T));

using Tag = hn::ScalableTag<float>;

// Of a row, what V vectors of floats hold.
template <int V, class T>
HWY_INLINE void Prefetch(const T* row) {
  constexpr int64_t kLine = 64 / sizeof(T);
  const int64_t numbers = V * int64_t(hn::Lanes(Tag()));
  for (int64_t i = 0; i < numbers; i += kLine) hwy::Prefetch(row + i);
}

// Asks for the tile after this one, a few lines at each step, into L2: with two tiles there and one block in
// L1, the products run at the speed of that cache while the next weights arrive.
struct Ahead {
  const char* next = nullptr;
  int64_t bytes = 0;  // a step

  template <class T>
  Ahead(const RowLists& lists, const T* matrix, int64_t stride, int64_t c) {
    constexpr int64_t kWorthwhile = 16;  // steps
    if (!lists.more || c > 0 || lists.rows < kWorthwhile) return;
    next = reinterpret_cast<const char*>(matrix + (lists.base + lists.width) * stride);
    bytes = (lists.width * stride * int64_t(sizeof(T)) / lists.rows + 63) / 64 * 64;
  }
  HWY_INLINE void step() {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(next + i, 0, 2);
    next += bytes;
  }
};

// Calls block<V>(first column) for whole vectors, at least kLeast at once, and tail(first column) for what is
// left.
template <int kLeast, class Block, class Tail>
HWY_INLINE void OverColumns(int64_t cols, bool widest, const Block& block, const Tail& tail) {
  const int64_t lanes = int64_t(hn::Lanes(Tag()));
  int64_t c = 0;
  if (widest)
    for (; c + kWidest * lanes <= cols; c += kWidest * lanes) block.template run<kWidest>(c);
  for (; c + 8 * lanes <= cols; c += 8 * lanes) block.template run<8>(c);
  for (; c + 4 * lanes <= cols; c += 4 * lanes) block.template run<4>(c);
  for (; c + kLeast * lanes <= cols; c += kLeast * lanes) block.template run<kLeast>(c);
  if (c < cols) tail(c);
}

HWY_INLINE void Deliver(const float* sums, int64_t count, bool add, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = add ? out[i] + sums[i] : sums[i];
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_NEURON_ROWS_INL_H_
