#include "brood/kernels/turn.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/turn.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/four_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

void turn_block(int64_t rows, int64_t columns, const float* from, int64_t from_step, float* to,
                int64_t to_step) {
  // Sixteen columns together: their numbers fill whole cache lines of `to`.
  TurnBlock<16>(rows, columns, from, from_step, to, to_step);
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
