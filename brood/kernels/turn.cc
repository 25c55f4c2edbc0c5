#include "brood/kernels/turn.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/turn.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
HWY_INLINE void turn4(const float* from, int64_t from_step, float* to, int64_t to_step) {
  const hn::FixedTag<float, 4> d;
  const hn::RepartitionToWide<hn::RebindToUnsigned<decltype(d)>> wide;
  const auto a = hn::LoadU(d, from), b = hn::LoadU(d, from + from_step);
  const auto c = hn::LoadU(d, from + 2 * from_step), e = hn::LoadU(d, from + 3 * from_step);
  const auto ab0 = hn::BitCast(wide, hn::InterleaveLower(d, a, b)),
             ab1 = hn::BitCast(wide, hn::InterleaveUpper(d, a, b)),
             ce0 = hn::BitCast(wide, hn::InterleaveLower(d, c, e)),
             ce1 = hn::BitCast(wide, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, ab0, ce0)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, ab0, ce0)), d, to + to_step);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, ab1, ce1)), d, to + 2 * to_step);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, ab1, ce1)), d, to + 3 * to_step);
}
#endif

void turn_block(int64_t rows, int64_t columns, const float* from, int64_t from_step, float* to,
                int64_t to_step) {
  int64_t j = 0;
#if HWY_TARGET != HWY_SCALAR
  // Sixteen columns together: their numbers fill whole cache lines of `to`.
  constexpr int64_t kTogether = 16;
  for (; j + kTogether <= columns; j += kTogether) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4)
      for (int64_t l = 0; l < kTogether; l += 4)
        turn4(from + (j + l) * from_step + i, from_step, to + i * to_step + j + l, to_step);
    for (; i < rows; ++i)
      for (int64_t l = 0; l < kTogether; ++l) to[i * to_step + j + l] = from[(j + l) * from_step + i];
  }
#endif
  for (; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i) to[i * to_step + j] = from[j * from_step + i];
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(turn_block);

void turn(int64_t rows, int64_t columns, const float* from, int64_t from_step, float* to, int64_t to_step) {
  HWY_DYNAMIC_DISPATCH(turn_block)(rows, columns, from, from_step, to, to_step);
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
