// Vectors of complex numbers. Include after hwy/foreach_target.h.
#if defined(BROOD_KERNELS_COMPLEX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BROOD_KERNELS_COMPLEX_INL_H_
#undef BROOD_KERNELS_COMPLEX_INL_H_
#else
#define BROOD_KERNELS_COMPLEX_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class V>
struct Complex {
  V re, im;
};

template <class V>
HWY_INLINE Complex<V> Times(Complex<V> x, Complex<V> y) {
  return {hn::NegMulAdd(x.im, y.im, hn::Mul(x.re, y.re)), hn::MulAdd(x.im, y.re, hn::Mul(x.re, y.im))};
}
template <class V>
HWY_INLINE Complex<V> Times(V x, Complex<V> y) {
  return {hn::Mul(x, y.re), hn::Mul(x, y.im)};
}
// conj(x)·y
template <class V>
HWY_INLINE Complex<V> ConjugateTimes(Complex<V> x, Complex<V> y) {
  return {hn::MulAdd(x.im, y.im, hn::Mul(x.re, y.re)), hn::NegMulAdd(x.im, y.re, hn::Mul(x.re, y.im))};
}
template <class V>
HWY_INLINE Complex<V> Plus(Complex<V> x, Complex<V> y) {
  return {hn::Add(x.re, y.re), hn::Add(x.im, y.im)};
}
// A h + B u: a step of a complex mode.
template <class V>
HWY_INLINE Complex<V> Step(Complex<V> A, Complex<V> B, Complex<V> h, V u) {
  return {hn::MulAdd(A.re, h.re, hn::NegMulAdd(A.im, h.im, hn::Mul(B.re, u))),
          hn::MulAdd(A.re, h.im, hn::MulAdd(A.im, h.re, hn::Mul(B.im, u)))};
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE Complex<V> Inverse(D d, Complex<V> x) {
  const V scale = hn::Div(hn::Set(d, 1.0f), hn::MulAdd(x.re, x.re, hn::Mul(x.im, x.im)));
  return {hn::Mul(x.re, scale), hn::Neg(hn::Mul(x.im, scale))};
}
// The imaginary parts lie `apart` floats behind the real ones.
template <class D, class V = hn::Vec<D>>
HWY_INLINE Complex<V> Load(D d, const float* pair, int64_t apart) {
  return {hn::LoadU(d, pair), hn::LoadU(d, pair + apart)};
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE void Store(D d, Complex<V> z, float* pair, int64_t apart) {
  hn::StoreU(z.re, d, pair);
  hn::StoreU(z.im, d, pair + apart);
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_COMPLEX_INL_H_
