// Exponential, logarithm and their relatives on vectors of f32, for every Highway target.
//
// Include after hwy/foreach_target.h; the functions live in brood::kernels::HWY_NAMESPACE. d is any float
// tag, full or partial. Errors are in units in the last place (ulp) over all floats in the ranges named;
// tests hold them to these. NaN in gives NaN out. Nothing depends on the floating-point environment except
// rounding to nearest.
//
// The polynomials are minimax fits (Remez, relative error of the whole function), written from the lowest
// power up.
#if defined(BROOD_KERNELS_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BROOD_KERNELS_VECTOR_MATH_INL_H_
#undef BROOD_KERNELS_VECTOR_MATH_INL_H_
#else
#define BROOD_KERNELS_VECTOR_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// exp(x) within 1.5 ulp. Above 88.7228317 (the logarithm of the largest float) the result is infinity; below
// −87.3365448 (that of the smallest normal one) it is 0, so that decays never leave slow denormals behind.
//
// x = n·ln 2 + r with |r| <= ln 2 / 2, and exp(x) = 2^n·exp(r). Adding 1.5·2^23 rounds x/ln 2 to n and leaves
// n in the low bits of the sum, from where it is added to the exponent of exp(r). ln 2 is split in two (Cody
// and Waite 1980), the upper part short enough that n times it is exact. Out of range these bits are
// nonsense, and replaced at the end.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToUnsigned<D> du;
  const V rounder = hn::Set(d, 12582912.0f);
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504f), rounder);
  const V n = hn::Sub(shifted, rounder);
  const V r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x));
  // exp(r) = 1 + r + r²·p(r), p within 3.1e-9.
  V p = hn::Set(d, 0.0013814541f);
  p = hn::MulAdd(p, r, hn::Set(d, 0.0083687451f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.0416683908f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.166665204f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.499999934f));
  const V e = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  const V scaled = hn::BitCast(d, hn::Add(hn::BitCast(du, e), hn::ShiftLeft<23>(hn::BitCast(du, shifted))));
  const V infinity = hn::BitCast(d, hn::Set(du, 0x7f800000u));
  const V capped = hn::IfThenElse(hn::Gt(x, hn::Set(d, 88.7228317f)), infinity, scaled);
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3365448f)), capped);
}

// 1/(1 + exp(−x)) within 3 ulp where the result is a normal number.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, Exp(d, hn::Neg(x))));
}

// The derivative of silu(x) = x·σ(x): σ + x·σ·(1 − σ).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V SiluSlope(D d, V x) {
  const V sigmoid = Sigmoid(d, x);
  return hn::MulAdd(hn::Mul(x, sigmoid), hn::Sub(hn::Set(d, 1.0f), sigmoid), sigmoid);
}

// log(1 + exp(x)) within 3 ulp, where that is below 2^−126 0, and its slope, Sigmoid(x) within 3 ulp.
//
// It is max(x, 0) + log(1 + u) with u = exp(−|x|) in (0, 1], where log(1 + u)/u is one polynomial within 5.3e-9:
// half the operations of a logarithm for all numbers.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Softplus(D d, V x, V& slope) {
  const V one = hn::Set(d, 1.0f);
  const V u = Exp(d, hn::Or(x, hn::SignBit(d)));
  slope = hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), u, one), hn::Add(one, u));
  V p = hn::Set(d, -0.00317605701f);
  p = hn::MulAdd(p, u, hn::Set(d, 0.0195425265f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.0563736111f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.105436236f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.152696669f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.196632743f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.249516159f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.333297104f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.499998927f));
  p = hn::MulAdd(p, u, one);
  return hn::MulAdd(p, u, hn::Max(x, hn::Zero(d)));
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Softplus(D d, V x) {
  V slope;  // where nobody asks for it the compiler leaves it out
  return Softplus(d, x, slope);
}

// tanh(x) within 4 ulp: for small x, where the difference would lose it, a polynomial (coefficients of Cephes'
// tanhf, Moshier 1989).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  const V size = hn::Abs(x), x2 = hn::Mul(x, x);
  V p = hn::Set(d, -5.70498872745e-3f);
  p = hn::MulAdd(p, x2, hn::Set(d, 2.06390887954e-2f));
  p = hn::MulAdd(p, x2, hn::Set(d, -5.37397155531e-2f));
  p = hn::MulAdd(p, x2, hn::Set(d, 1.33314422036e-1f));
  p = hn::MulAdd(p, x2, hn::Set(d, -3.33332819422e-1f));
  const V small = hn::MulAdd(hn::Mul(p, x2), x, x);
  const V one = hn::Set(d, 1.0f);
  const V e = Exp(d, hn::Mul(hn::Set(d, -2.0f), size));
  const V large = hn::CopySign(hn::Div(hn::Sub(one, e), hn::Add(one, e)), x);
  return hn::IfThenElse(hn::Lt(size, hn::Set(d, 0.625f)), small, large);
}

// Φ(x), the share of a normal distribution below x, and its density φ(x) = e^{−x²/2}/√(2π). Within 8 ulp, and
// in the tail, where x²/2 is rounded before its exponential is taken, x²/2 more.
//
// Φ(−|x|) = e^{−x²/2}·t·q(t) with t = 1/(1 + 0.26·|x|), q within 2.1e-8 up to |x| = 13.3, where a float ends.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V NormalShare(D d, V x, V& density) {
  const V one = hn::Set(d, 1.0f);
  const V t = hn::Div(one, hn::MulAdd(hn::Set(d, 0.26f), hn::Abs(x), one));
  const V e = Exp(d, hn::Mul(hn::Mul(hn::Set(d, -0.5f), x), x));
  V q = hn::Set(d, 0.0308966246f);
  q = hn::MulAdd(q, t, hn::Set(d, -0.154742695f));
  q = hn::MulAdd(q, t, hn::Set(d, 0.255471492f));
  q = hn::MulAdd(q, t, hn::Set(d, -0.155541197f));
  q = hn::MulAdd(q, t, hn::Set(d, 0.164155921f));
  q = hn::MulAdd(q, t, hn::Set(d, 0.0496410837f));
  q = hn::MulAdd(q, t, hn::Set(d, 0.103391680f));
  q = hn::MulAdd(q, t, hn::Set(d, 0.102964887f));
  q = hn::MulAdd(q, t, hn::Set(d, 0.103762194f));
  const V tail = hn::Mul(e, hn::Mul(q, t));
  density = hn::Mul(e, hn::Set(d, 0.398942280f));
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(one, tail));
}

// Sine and cosine within 1 ulp for |x| <= π/4 (coefficients of Cephes' sinf and cosf, Moshier 1989).
template <class D, class V = hn::Vec<D>>
HWY_INLINE void NearSineCosine(D d, V x, V& sine, V& cosine) {
  const V x2 = hn::Mul(x, x);
  V s = hn::Set(d, -1.9515295891e-4f);
  s = hn::MulAdd(s, x2, hn::Set(d, 8.3321608736e-3f));
  s = hn::MulAdd(s, x2, hn::Set(d, -1.6666654611e-1f));
  sine = hn::MulAdd(hn::Mul(s, x2), x, x);
  V c = hn::Set(d, 2.443315711809948e-5f);
  c = hn::MulAdd(c, x2, hn::Set(d, -1.388731625493765e-3f));
  c = hn::MulAdd(c, x2, hn::Set(d, 4.166664568298827e-2f));
  cosine = hn::MulAdd(hn::Mul(c, x2), x2, hn::NegMulAdd(hn::Set(d, 0.5f), x2, hn::Set(d, 1.0f)));
}

// Sine and cosine within 1.2e-7 for |x| < 8000: the nearest quarter turn is split off, π/2 in three parts of
// which the first two are short enough for exact products (Cody and Waite 1980).
template <class D, class V = hn::Vec<D>>
HWY_INLINE void SineCosine(D d, V x, V& sine, V& cosine) {
  const hn::RebindToSigned<D> di;
  const V n = hn::Round(hn::Mul(x, hn::Set(d, 0.636619772f)));
  V r = hn::NegMulAdd(n, hn::Set(d, 1.5703125f), x);
  r = hn::NegMulAdd(n, hn::Set(d, 4.837512969970703125e-4f), r);
  r = hn::NegMulAdd(n, hn::Set(d, 7.549789954891881e-8f), r);
  V s = r, c = r;
  NearSineCosine(d, r, s, c);
  // Odd quarter turns exchange the two, and the second bit is the sign.
  const auto quarter = hn::ConvertTo(di, n);
  const auto one = hn::Set(di, 1);
  const auto odd = hn::RebindMask(d, hn::Eq(hn::And(quarter, one), one));
  const auto sign_of = [&](auto q)
                           HWY_ATTR { return hn::BitCast(d, hn::ShiftLeft<31>(hn::ShiftRight<1>(q))); };
  sine = hn::Xor(hn::IfThenElse(odd, c, s), sign_of(quarter));
  cosine = hn::Xor(hn::IfThenElse(odd, s, c), sign_of(hn::Add(quarter, one)));
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_VECTOR_MATH_INL_H_
