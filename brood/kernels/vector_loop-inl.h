// Walking contiguous rows a vector at a time, for every Highway target. Include after hwy/foreach_target.h.
//
// What is left of a row after its whole vectors goes one number at a time, in vectors of one lane: never a
// load or a store outside the row. So each function is called with two kinds of tag and is written once, with
// auto.
#if defined(BROOD_KERNELS_VECTOR_LOOP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BROOD_KERNELS_VECTOR_LOOP_INL_H_
#undef BROOD_KERNELS_VECTOR_LOOP_INL_H_
#else
#define BROOD_KERNELS_VECTOR_LOOP_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using WholeVector = hn::ScalableTag<float>;
using OneLane = hn::CappedTag<float, 1>;

// body(d, i) for every position i in [begin, end) where a vector of d begins.
template <class Body>
HWY_INLINE void for_each_vector(int64_t begin, int64_t end, const Body& body) {
  const WholeVector d;
  const OneLane one;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) body(d, i);
  for (; i < end; ++i) body(one, i);
}

// The sum over n positions, where add(d, i, sum) gives sum plus the terms of the vector at i. Four partial
// sums hide the latency of the additions and keep the rounding error of long rows small; the order is the
// same for the same n.
template <class Add>
HWY_INLINE float sum_over(int64_t n, const Add& add) {
  const WholeVector d;
  const OneLane one;
  const int64_t lanes = int64_t(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = add(d, i, s0);
    s1 = add(d, i + lanes, s1);
    s2 = add(d, i + 2 * lanes, s2);
    s3 = add(d, i + 3 * lanes, s3);
  }
  for (; i + lanes <= n; i += lanes) s0 = add(d, i, s0);
  auto rest = hn::Zero(one);
  for (; i < n; ++i) rest = add(one, i, rest);
  const auto sum = hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
  return hn::GetLane(hn::SumOfLanes(d, sum)) + hn::GetLane(rest);
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_VECTOR_LOOP_INL_H_
