#include "brood/kernels/discretise.h"

#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/discretise.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/complex-inl.h"
#include "brood/kernels/vector_loop-inl.h"
#include "brood/kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

// e^z − 1 for Re z <= 0, without the digits that the difference would lose: with m = e^x − 1 it is
// m cos y − 2 sin²(y/2) + i (1 + m) sin y.
template <class D, class V = hn::Vec<D>>
HWY_INLINE Complex<V> ExpMinusOne(D d, Complex<V> z) {
  const V half = hn::Set(d, 0.5f), one = hn::Set(d, 1.0f), two = hn::Set(d, 2.0f);
  const V t = Tanh(d, hn::Mul(half, z.re));
  const V m = hn::Div(hn::Mul(two, t), hn::Sub(one, t));
  V s = one, c = one;
  SineCosine(d, hn::Mul(half, z.im), s, c);
  const V versine = hn::Mul(two, hn::Mul(s, s));  // 1 − cos y
  const V sine = hn::Mul(two, hn::Mul(s, c));
  return {hn::Sub(hn::Mul(m, hn::Sub(one, versine)), versine), hn::MulAdd(m, sine, sine)};
}

// One vector of channels of one mode: its a, and Δ·a.
template <class D, class V = hn::Vec<D>>
struct Mode {
  Complex<V> a, z;
  V dt;
  HWY_INLINE Mode(D d, const ContinuousModes& modes, int64_t n, int64_t c) {
    dt = Exp(d, hn::LoadU(d, modes.log_dt + c));
    a = {hn::Neg(Exp(d, hn::LoadU(d, modes.log_real + n * modes.C + c))),
         hn::LoadU(d, modes.imag + n * modes.C + c)};
    z = Times(dt, a);
  }
};

void discretise_channels(const ContinuousModes& modes, bool hold, int64_t begin, int64_t end, float* A,
                         float* B) {
  const int64_t C = modes.C;
  for (int64_t n = 0; n < modes.N; ++n)
    for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
      using V = hn::Vec<decltype(d)>;
      const V one = hn::Set(d, 1.0f), half = hn::Set(d, 0.5f);
      const Mode<decltype(d)> mode(d, modes, n, c);
      Complex<V> out, in;
      if (hold) {
        const Complex<V> grown = ExpMinusOne(d, mode.z);
        out = {hn::Add(grown.re, one), grown.im};
        in = Times(grown, Inverse(d, mode.a));
      } else {
        const Complex<V> z = Times(half, mode.z);
        const Complex<V> p = Inverse(d, Complex<V>{hn::Sub(one, z.re), hn::Neg(z.im)});
        out = Times(p, Complex<V>{hn::Add(one, z.re), z.im});
        in = Times(mode.dt, p);
      }
      const int64_t at = 2 * n * C + c;
      hn::StoreU(out.re, d, A + at);
      hn::StoreU(out.im, d, A + at + C);
      hn::StoreU(in.re, d, B + at);
      hn::StoreU(in.im, d, B + at + C);
    });
}

// (z e^z − e^z + 1)/z², the slope of (e^z − 1)/z, for |z| < kSlow: six terms of its series Σ z^k (k+1)/(k+2)!,
// the next of which would be below a rounding.
constexpr float kSlow = 0.125f;
template <class D, class V = hn::Vec<D>>
HWY_INLINE Complex<V> SlowSlope(D d, Complex<V> z) {
  constexpr float kTerms[] = {1.0f / 2, 1.0f / 3, 1.0f / 8, 1.0f / 30, 1.0f / 144, 1.0f / 840};
  Complex<V> sum = {hn::Set(d, kTerms[5]), hn::Zero(d)};
  for (int k = 4; k >= 0; --k) {
    sum = Times(sum, z);
    sum.re = hn::Add(sum.re, hn::Set(d, kTerms[k]));
  }
  return sum;
}

// Slopes of A and B with respect to a: under the zero-order hold Δ·A and (Δ·A − B)/a, a small difference
// of a slow mode, under the bilinear rule, with p = B/Δ = 1/(1 − Δa/2), Δ·p² and Δ²·p²/2. With respect to Δ: a·A and A; a·p² and p².
void backward_channels(const ContinuousModes& modes, bool hold, int64_t begin, int64_t end, const float* A,
                       const float* B, const float* dA, const float* dB,
                       const ContinuousGradients& gradients) {
  const int64_t C = modes.C;
  for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
    using V = hn::Vec<decltype(d)>;
    V dlog_dt = hn::Zero(d), dt = hn::Zero(d);
    for (int64_t n = 0; n < modes.N; ++n) {
      const Mode<decltype(d)> mode(d, modes, n, c);
      dt = mode.dt;
      const int64_t at = 2 * n * C + c;
      const Complex<V> out = Load(d, A + at, C), in = Load(d, B + at, C), gA = Load(d, dA + at, C),
                       gB = Load(d, dB + at, C);
      Complex<V> along, in_slope;  // dA/d(Δa), which is dB/dΔ, too, and dB/da
      if (hold) {
        along = out;
        const Complex<V> fast = Times(
            Complex<V>{hn::MulSub(dt, out.re, in.re), hn::MulSub(dt, out.im, in.im)}, Inverse(d, mode.a));
        const Complex<V> slow = Times(hn::Mul(dt, dt), SlowSlope(d, mode.z));
        const auto is_slow = hn::Lt(hn::MulAdd(mode.z.re, mode.z.re, hn::Mul(mode.z.im, mode.z.im)),
                                    hn::Set(d, kSlow * kSlow));
        in_slope = {hn::IfThenElse(is_slow, slow.re, fast.re), hn::IfThenElse(is_slow, slow.im, fast.im)};
      } else {
        const Complex<V> squared = Times(in, in);  // Δ²p²
        along = Times(hn::Div(hn::Set(d, 1.0f), hn::Mul(dt, dt)), squared);
        in_slope = Times(hn::Set(d, 0.5f), squared);
      }
      const Complex<V> da = Plus(ConjugateTimes(Times(dt, along), gA), ConjugateTimes(in_slope, gB));
      const Complex<V> ddt = Plus(ConjugateTimes(Times(mode.a, along), gA), ConjugateTimes(along, gB));
      dlog_dt = hn::Add(dlog_dt, ddt.re);
      float *real = gradients.log_real + n * C + c, *imag = gradients.imag + n * C + c;
      hn::StoreU(hn::MulAdd(mode.a.re, da.re, hn::LoadU(d, real)), d, real);
      hn::StoreU(hn::Add(hn::LoadU(d, imag), da.im), d, imag);
    }
    hn::StoreU(hn::MulAdd(dt, dlog_dt, hn::LoadU(d, gradients.log_dt + c)), d, gradients.log_dt + c);
  });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(discretise_channels);
HWY_EXPORT(backward_channels);

namespace {

constexpr int64_t kWork = 16;  // a mode costs some sixteen times what a sum of two numbers does

}  // namespace

void discretise(const ContinuousModes& modes, Discretisation method, float* A, float* B) {
  parallel_columns(kWork * modes.N, modes.C, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(discretise_channels)
    (modes, method == Discretisation::kZeroOrderHold, begin, end, A, B);
  });
}

void discretise_backward(const ContinuousModes& modes, Discretisation method, const float* A, const float* B,
                         const float* dA, const float* dB, const ContinuousGradients& gradients) {
  parallel_columns(kWork * modes.N, modes.C, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(backward_channels)
    (modes, method == Discretisation::kZeroOrderHold, begin, end, A, B, dA, dB, gradients);
  });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
