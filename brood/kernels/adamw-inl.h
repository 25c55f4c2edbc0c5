// One vector of AdamW, for the step over all weights and for the one that rides in the backward pass. Include
// after hwy/foreach_target.h.
#if defined(BROOD_KERNELS_ADAMW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BROOD_KERNELS_ADAMW_INL_H_
#undef BROOD_KERNELS_ADAMW_INL_H_
#else
#define BROOD_KERNELS_ADAMW_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>

#include "brood/kernels/optimiser.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The numbers of a step as the loops want them: both corrections are drawn out of the root,
//   lr·m·c1 / (sqrt(v·c2) + eps) = (lr·c1/sqrt(c2)) · m / (sqrt(v) + eps/sqrt(c2)).
// A copy of the loop's own, which no store to the weights can be taken to change.
struct AdamStep {
  float gain1, gain2, rate, eps, keep;
  explicit AdamStep(const AdamW& step)
      : gain1(1.0f - step.beta1),
        gain2(1.0f - step.beta2),
        rate(step.lr * step.correct1 / std::sqrt(step.correct2)),
        eps(step.eps / std::sqrt(step.correct2)),
        keep(1.0f - step.lr * step.decay) {}
};

// a / (sqrt(b) + eps) for b >= 0. Division and root take some 35 cycles a vector with AVX-512; its estimates
// (14 bits) with one Newton step each take a third and are off by 3 ulp at most.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V over_root(D d, V a, V b, V eps) {
#if HWY_TARGET == HWY_AVX3
  const V x = hn::Max(hn::Set(d, 1.17549435e-38f), b);  // 1/0 is out of the estimate's reach; passes NaN on
  const V r = hn::ApproximateReciprocalSqrt(x);
  const V s = hn::Mul(x, r);
  const V correction = hn::NegMulAdd(hn::Mul(s, hn::Set(d, 0.5f)), r, hn::Set(d, 1.5f));
  const V bottom = hn::MulAdd(s, correction, eps);
  const V q = hn::ApproximateReciprocal(bottom);
  return hn::Mul(hn::Mul(a, q), hn::NegMulAdd(bottom, q, hn::Set(d, 2.0f)));
#else
  (void)d;
  return hn::Div(a, hn::Add(hn::Sqrt(b), eps));
#endif
}

// m and v in place; returns the new w.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V adamw_vector(D d, const AdamStep& step, V g, V w, float* m, float* v) {
  const V old_m = hn::LoadU(d, m);
  const V old_v = hn::LoadU(d, v);
  const V new_m = hn::MulAdd(hn::Set(d, step.gain1), hn::Sub(g, old_m), old_m);
  const V new_v = hn::MulAdd(hn::Set(d, step.gain2), hn::MulSub(g, g, old_v), old_v);
  hn::StoreU(new_m, d, m);
  hn::StoreU(new_v, d, v);
  const V direction = over_root(d, new_m, new_v, hn::Set(d, step.eps));
  return hn::NegMulAdd(hn::Set(d, step.rate), direction, hn::Mul(w, hn::Set(d, step.keep)));
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_ADAMW_INL_H_
