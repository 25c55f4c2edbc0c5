// Four vectors at once: transposed in blocks of four lanes, or summed each over its lanes. Include after
// hwy/foreach_target.h.
#if defined(BROOD_KERNELS_FOUR_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BROOD_KERNELS_FOUR_VECTORS_INL_H_
#undef BROOD_KERNELS_FOUR_VECTORS_INL_H_
#else
#define BROOD_KERNELS_FOUR_VECTORS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

// In every block of four lanes: lane j of vector i goes to lane i of vector j.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void TurnFour(D d, V& a, V& b, V& c, V& e) {
  const hn::RepartitionToWide<hn::RebindToUnsigned<D>> wide;
  const auto ab0 = hn::BitCast(wide, hn::InterleaveLower(d, a, b)),
             ab1 = hn::BitCast(wide, hn::InterleaveUpper(d, a, b));
  const auto ce0 = hn::BitCast(wide, hn::InterleaveLower(d, c, e)),
             ce1 = hn::BitCast(wide, hn::InterleaveUpper(d, c, e));
  a = hn::BitCast(d, hn::InterleaveLower(wide, ab0, ce0));
  b = hn::BitCast(d, hn::InterleaveUpper(wide, ab0, ce0));
  c = hn::BitCast(d, hn::InterleaveLower(wide, ab1, ce1));
  e = hn::BitCast(d, hn::InterleaveUpper(wide, ab1, ce1));
}

// Adds the blocks of four lanes of v and stores the one that remains.
template <class D>
HWY_INLINE void StoreFolded(D d, hn::Vec<D> v, float* to) {
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> half;
    StoreFolded(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), to);
  } else {
    hn::StoreU(v, d, to);
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

// The four sums over lanes to to[0..3], by three interleaving steps in place of four reductions.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void SumsOfFour(D d, V a, V b, V c, V e, float* to) {
#if HWY_HAVE_SCALABLE || HWY_TARGET == HWY_SCALAR
  to[0] = hn::GetLane(hn::SumOfLanes(d, a));
  to[1] = hn::GetLane(hn::SumOfLanes(d, b));
  to[2] = hn::GetLane(hn::SumOfLanes(d, c));
  to[3] = hn::GetLane(hn::SumOfLanes(d, e));
#else
  // Within each block of four lanes: transpose in pairs and add, so that lane i of every block holds a part of
  // sum i.
  const hn::RepartitionToWide<hn::RebindToUnsigned<D>> wide;
  const auto ab = hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  const auto ce = hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
  const auto low = hn::InterleaveLower(wide, hn::BitCast(wide, ab), hn::BitCast(wide, ce));
  const auto high = hn::InterleaveUpper(wide, hn::BitCast(wide, ab), hn::BitCast(wide, ce));
  StoreFolded(d, hn::Add(hn::BitCast(d, low), hn::BitCast(d, high)), to);
#endif
}

// to[i·to_step + j] = from[j·from_step + i] for i < rows, j < columns; kTogether columns, a multiple of four,
// one block of rows after the other.
template <int kTogether>
HWY_INLINE void TurnBlock(int64_t rows, int64_t columns, const float* from, int64_t from_step, float* to,
                          int64_t to_step) {
  int64_t done = 0;  // columns
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  const int64_t whole = rows / 4 * 4;
  done = columns / kTogether * kTogether;
  for (int64_t j = 0; j < done; j += kTogether) {
    for (int64_t i = 0; i < whole; i += 4)
      for (int64_t l = j; l < j + kTogether; l += 4) {
        const float* corner = from + l * from_step + i;
        auto a = hn::LoadU(d, corner), b = hn::LoadU(d, corner + from_step);
        auto c = hn::LoadU(d, corner + 2 * from_step), e = hn::LoadU(d, corner + 3 * from_step);
        TurnFour(d, a, b, c, e);
        float* at = to + i * to_step + l;
        hn::StoreU(a, d, at);
        hn::StoreU(b, d, at + to_step);
        hn::StoreU(c, d, at + 2 * to_step);
        hn::StoreU(e, d, at + 3 * to_step);
      }
    for (int64_t i = whole; i < rows; ++i)
      for (int64_t l = j; l < j + kTogether; ++l) to[i * to_step + l] = from[l * from_step + i];
  }
#endif
  for (int64_t j = done; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i) to[i * to_step + j] = from[j * from_step + i];
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_FOUR_VECTORS_INL_H_
