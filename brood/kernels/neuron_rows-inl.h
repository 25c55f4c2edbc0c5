// What the loops over neurons' rows share, whether the rows are f32 or bf16. Include after
// hwy/foreach_target.h.
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

#include "brood/kernels/neuron_rows.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Sixteen vectors and their company need the 32 registers that these targets lack.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_SCALAR
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

// The four sums over lanes of four vectors, written to to[0..3].
template <class V>
HWY_INLINE void SumFour(V a, V b, V c, V e, float* to) {
#if HWY_HAVE_SCALABLE || HWY_TARGET == HWY_SCALAR
  const Tag d;
  to[0] = hn::GetLane(hn::SumOfLanes(d, a));
  to[1] = hn::GetLane(hn::SumOfLanes(d, b));
  to[2] = hn::GetLane(hn::SumOfLanes(d, c));
  to[3] = hn::GetLane(hn::SumOfLanes(d, e));
#else
  // Within each block of four lanes: transpose in pairs and add, so that lane i of every block holds a part
  // of sum i.
  const Tag d;
  const hn::Repartition<double, Tag> wide;
  const auto ab = hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  const auto ce = hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
  const auto low = hn::InterleaveLower(wide, hn::BitCast(wide, ab), hn::BitCast(wide, ce));
  const auto high = hn::InterleaveUpper(wide, hn::BitCast(wide, ab), hn::BitCast(wide, ce));
  const auto all = hn::Add(hn::BitCast(d, low), hn::BitCast(d, high));
#if HWY_TARGET == HWY_AVX2
  const hn::Half<Tag> half;
  hn::StoreU(hn::Add(hn::LowerHalf(half, all), hn::UpperHalf(half, all)), half, to);
#elif HWY_TARGET <= HWY_AVX3
  const hn::Half<Tag> half;
  const hn::Half<decltype(half)> quarter;
  const auto two = hn::Add(hn::LowerHalf(half, all), hn::UpperHalf(half, all));
  hn::StoreU(hn::Add(hn::LowerHalf(quarter, two), hn::UpperHalf(quarter, two)), quarter, to);
#else
  hn::StoreU(all, d, to);
#endif
#endif
}

HWY_INLINE void Deliver(const float* sums, int64_t count, bool add, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = add ? out[i] + sums[i] : sums[i];
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_NEURON_ROWS_INL_H_
