#include "brood/kernels/neuron_rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "brood/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/neuron_rotary.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Sine and cosine of phases in units of 2^−32 turns. The nearest quarter turn is split off in integers,
// exactly; what is left, |angle| <= π/4, goes through the polynomials of Cephes (Moshier), sinf and cosf.
void SineCosine(int64_t n, const uint32_t* phase, float* cosine, float* sine) {
  const hn::CappedTag<float, kRotaryPairs> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::RebindToUnsigned<decltype(d)> du;
  for (int64_t i = 0; i < n; i += int64_t(hn::Lanes(d))) {
    const auto p = hn::LoadU(du, phase + i);
    const auto quarter = hn::ShiftRight<30>(hn::Add(p, hn::Set(du, 1u << 29)));
    const auto rest = hn::BitCast(di, hn::Sub(p, hn::ShiftLeft<30>(quarter)));
    const auto a = hn::Mul(hn::ConvertTo(d, rest), hn::Set(d, 1.4629180792671596e-9f));  // 2π / 2^32
    const auto a2 = hn::Mul(a, a);
    auto s = hn::MulAdd(a2, hn::Set(d, -1.9515295891e-4f), hn::Set(d, 8.3321608736e-3f));
    s = hn::MulAdd(a2, s, hn::Set(d, -1.6666654611e-1f));
    s = hn::MulAdd(hn::Mul(a2, a), s, a);
    auto c = hn::MulAdd(a2, hn::Set(d, 2.443315711809948e-5f), hn::Set(d, -1.388731625493765e-3f));
    c = hn::MulAdd(a2, c, hn::Set(d, 4.166664568298827e-2f));
    c = hn::MulAdd(hn::Mul(a2, a2), c, hn::MulAdd(a2, hn::Set(d, -0.5f), hn::Set(d, 1.0f)));
    // Quarter turns: odd ones exchange sine and cosine, signs follow.
    const auto one = hn::Set(du, 1u);
    const auto odd = hn::MaskFromVec(hn::BitCast(d, hn::Sub(hn::Zero(du), hn::And(quarter, one))));
    const auto sine_sign = hn::ShiftLeft<31>(hn::ShiftRight<1>(quarter));
    const auto cosine_sign = hn::ShiftLeft<31>(hn::ShiftRight<1>(hn::Add(quarter, one)));
    hn::StoreU(hn::Xor(hn::IfThenElse(odd, c, s), hn::BitCast(d, sine_sign)), d, sine + i);
    hn::StoreU(hn::Xor(hn::IfThenElse(odd, s, c), hn::BitCast(d, cosine_sign)), d, cosine + i);
  }
}

// One row, `pairs` <= kRotaryPairs pairs.
void RotatePairs(int64_t pairs, const float* cosine, const float* sine, bool inverse, bool add,
                 const float* x, float* y) {
  const hn::CappedTag<float, kRotaryPairs> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto sign = hn::Set(d, inverse ? -1.0f : 1.0f);
  int64_t i = 0;
  for (; i + lanes <= pairs; i += lanes) {
    hn::Vec<decltype(d)> even, odd, old_even, old_odd;
    hn::LoadInterleaved2(d, x + 2 * i, even, odd);
    const auto c = hn::LoadU(d, cosine + i), s = hn::Mul(sign, hn::LoadU(d, sine + i));
    auto turned_even = hn::NegMulAdd(odd, s, hn::Mul(even, c));
    auto turned_odd = hn::MulAdd(even, s, hn::Mul(odd, c));
    if (add) {
      hn::LoadInterleaved2(d, y + 2 * i, old_even, old_odd);
      turned_even = hn::Add(turned_even, old_even);
      turned_odd = hn::Add(turned_odd, old_odd);
    }
    hn::StoreInterleaved2(turned_even, turned_odd, d, y + 2 * i);
  }
  for (; i < pairs; ++i) {
    const float c = cosine[i], s = inverse ? -sine[i] : sine[i];
    const float even = x[2 * i] * c - x[2 * i + 1] * s, odd = x[2 * i + 1] * c + x[2 * i] * s;
    y[2 * i] = add ? y[2 * i] + even : even;
    y[2 * i + 1] = add ? y[2 * i + 1] + odd : odd;
  }
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(SineCosine);
HWY_EXPORT(RotatePairs);

void rotary_turns(int64_t N, uint64_t* turn) {
  for (int64_t i = 0; i < N / 2; ++i) {
    const long double f = std::pow(65536.0L, -2.0L * (long double)(i) / (long double)(N)) /
                          (2.0L * std::numbers::pi_v<long double>);
    turn[i] = uint64_t(std::llround(std::ldexp(f, 63))) * 2;  // f < 1/4, so 2^63·f fits
  }
}

void rotary_table(int64_t rows, const int64_t* positions, int64_t N, const uint64_t* turn, float* table) {
  const auto sine_cosine = HWY_DYNAMIC_DISPATCH(SineCosine);
  const int64_t tiles = (N / 2 + kRotaryPairs - 1) / kRotaryPairs;
  auto tile = [&](int64_t t) {
    const int64_t pairs = std::min(kRotaryPairs, N / 2 - t * kRotaryPairs);
    for (int64_t r = 0; r < rows; ++r) {
      uint32_t phase[kRotaryPairs] = {};
      for (int64_t i = 0; i < pairs; ++i)
        phase[i] = uint32_t((uint64_t(positions[r]) * turn[t * kRotaryPairs + i]) >> 32);
      float* row = table + (t * rows + r) * 2 * kRotaryPairs;
      sine_cosine(kRotaryPairs, phase, row, row + kRotaryPairs);
    }
  };
  constexpr int64_t kWorthThreads = 1 << 16;  // pairs: about 50 µs
  if (rows * N / 2 >= kWorthThreads) {
    parallel(tiles, tile);
  } else {
    for (int64_t t = 0; t < tiles; ++t) tile(t);
  }
}

void rotate_neurons(const NeuronRotary& rotary, int64_t first, int64_t rows, int64_t heads, bool inverse,
                    bool add, const float* x, float* y) {
  const auto rotate = HWY_DYNAMIC_DISPATCH(RotatePairs);
  const int64_t N = rotary.N;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t pair = 0; pair < N / 2; pair += kRotaryPairs) {
      const int64_t pairs = std::min(kRotaryPairs, N / 2 - pair);
      const float *cosine = rotary.cosines(first + r, pair), *sine = rotary.sines(first + r, pair);
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t at = (first + r) * heads * N + h * N + 2 * pair;
        rotate(pairs, cosine, sine, inverse, add, x + at, y + at);
      }
    }
  }
}

}  // namespace brood::kernels
#endif
