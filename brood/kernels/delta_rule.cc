#include "brood/kernels/delta_rule.h"

#include <algorithm>
#include <cmath>

#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/delta_rule.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"
#include "brood/kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

constexpr float kFastest = 0.60653066f;  // e^{−1/2}: the most that a state fades in a step, in nats
constexpr float kShortest = 1e-12f;      // a vector shorter than this has no direction

void decay_rows(int64_t begin, int64_t end, int64_t cols, const float* z, const float* bias, float* w) {
  for (int64_t r = begin; r < end; ++r)
    for_each_vector(0, cols, [&](auto d, int64_t c) HWY_ATTR {
      const int64_t i = r * cols + c;
      const auto s = Sigmoid(d, hn::Add(hn::LoadU(d, z + i), hn::LoadU(d, bias + c)));
      hn::StoreU(Exp(d, hn::Mul(hn::Set(d, -kFastest), s)), d, w + i);
    });
}

// Columns [begin, end) of all rows: dw/dz = −e^{−1/2}·w·σ·(1 − σ).
void decay_backward_columns(int64_t begin, int64_t end, int64_t rows, int64_t cols, const float* z,
                            const float* bias, const float* w, const float* dw, float* dz, float* dbias) {
  for (int64_t r = 0; r < rows; ++r)
    for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
      const int64_t i = r * cols + c;
      const auto s = Sigmoid(d, hn::Add(hn::LoadU(d, z + i), hn::LoadU(d, bias + c)));
      const auto slope = hn::Mul(hn::NegMulAdd(s, s, s), hn::Mul(hn::Set(d, -kFastest), hn::LoadU(d, w + i)));
      const auto g = hn::Mul(hn::LoadU(d, dw + i), slope);
      hn::StoreU(hn::Add(hn::LoadU(d, dz + i), g), d, dz + i);
      hn::StoreU(hn::Add(hn::LoadU(d, dbias + c), g), d, dbias + c);
    });
}

void keys_rows(int64_t begin, int64_t end, const DeltaRuleKeys& in, const DeltaRuleKeyRows& out,
               float* inverse) {
  for (int64_t r = begin; r < end; ++r)
    for (int64_t h = 0; h < in.heads; ++h) {
      const int64_t at = h * in.N;
      const float *k = in.k.row(r) + at, *a = in.a.row(r) + at, *k_k = in.k_k + at, *k_a = in.k_a + at;
      float *key = out.key.row(r) + at, *erased = out.erased.row(r) + at,
            *replaced = out.replaced.row(r) + at;
      const float squares = sum_over(in.N, [&](auto d, int64_t i, auto sum) HWY_ATTR {
        const auto u = hn::Mul(hn::LoadU(d, k + i), hn::LoadU(d, k_k + i));
        return hn::MulAdd(u, u, sum);
      });
      const float length = std::sqrt(squares), over = 1.0f / std::max(length, kShortest);
      for_each_vector(0, in.N, [&](auto d, int64_t i) HWY_ATTR {
        const auto ki = hn::LoadU(d, k + i), ai = hn::LoadU(d, a + i);
        const auto direction = hn::Mul(hn::Mul(ki, hn::LoadU(d, k_k + i)), hn::Set(d, over));
        const auto change = hn::Mul(hn::Sub(ai, hn::Set(d, 1.0f)), hn::LoadU(d, k_a + i));
        hn::StoreU(hn::MulAdd(ki, change, ki), d, key + i);
        hn::StoreU(hn::Neg(direction), d, erased + i);
        hn::StoreU(hn::Mul(direction, ai), d, replaced + i);
      });
      if (inverse != nullptr) inverse[r * in.heads + h] = length < kShortest ? 0.0f : over;
    }
}

// One head of all rows. With dκ = dreplaced∘a − derased, du = (dκ − κ·⟨κ, dκ⟩)/|u|.
void keys_backward_head(int64_t h, const DeltaRuleKeys& in, const float* inverse, ConstRows erased_rows,
                        ConstRows dkey_rows, ConstRows derased_rows, ConstRows dreplaced_rows,
                        const DeltaRuleKeysGradients& gradients) {
  const int64_t at = h * in.N;
  const float *k_k = in.k_k + at, *k_a = in.k_a + at;
  float *dk_k = gradients.k_k + at, *dk_a = gradients.k_a + at;
  for (int64_t r = 0; r < in.rows; ++r) {
    const float *k = in.k.row(r) + at, *a = in.a.row(r) + at, *erased = erased_rows.row(r) + at;
    const float *dkey = dkey_rows.row(r) + at, *derased = derased_rows.row(r) + at,
                *dreplaced = dreplaced_rows.row(r) + at;
    float *dk = gradients.k.row(r) + at, *da = gradients.a.row(r) + at;
    const auto ddirection = [&](auto d, int64_t i) HWY_ATTR {
      return hn::MulSub(hn::LoadU(d, dreplaced + i), hn::LoadU(d, a + i), hn::LoadU(d, derased + i));
    };
    const float along = sum_over(in.N, [&](auto d, int64_t i, auto sum) HWY_ATTR {
      return hn::NegMulAdd(hn::LoadU(d, erased + i), ddirection(d, i), sum);
    });
    const float over = inverse[r * in.heads + h];
    for_each_vector(0, in.N, [&](auto d, int64_t i) HWY_ATTR {
      const auto ki = hn::LoadU(d, k + i), minus_direction = hn::LoadU(d, erased + i);
      const auto g = hn::LoadU(d, dkey + i), rate = hn::LoadU(d, k_a + i);
      const auto change = hn::Sub(hn::LoadU(d, a + i), hn::Set(d, 1.0f));
      const auto across = hn::MulAdd(minus_direction, hn::Set(d, along), ddirection(d, i));
      const auto du = hn::Mul(across, hn::Set(d, over));
      const auto through_key = hn::MulAdd(g, hn::Mul(change, rate), g);
      const auto gk = hn::Mul(g, ki);
      hn::StoreU(hn::Add(hn::LoadU(d, dk + i), hn::MulAdd(du, hn::LoadU(d, k_k + i), through_key)), d,
                 dk + i);
      const auto through_replaced =
          hn::NegMulAdd(hn::LoadU(d, dreplaced + i), minus_direction, hn::LoadU(d, da + i));
      hn::StoreU(hn::MulAdd(gk, rate, through_replaced), d, da + i);
      hn::StoreU(hn::MulAdd(du, ki, hn::LoadU(d, dk_k + i)), d, dk_k + i);
      hn::StoreU(hn::MulAdd(gk, change, hn::LoadU(d, dk_a + i)), d, dk_a + i);
    });
  }
}

void bonus_rows(int64_t begin, int64_t end, const StepBonus& in, float* y, float* s) {
  for (int64_t row = begin; row < end; ++row)
    for (int64_t h = 0; h < in.heads; ++h) {
      const int64_t at = h * in.N;
      const float *r = in.r.row(row) + at, *k = in.k.row(row) + at, *v = in.v.row(row) + at,
                  *o = in.o.row(row) + at, *r_k = in.r_k + at;
      float* to = y + (row * in.heads + h) * in.N;
      const float weight = sum_over(in.N, [&](auto d, int64_t i, auto sum) HWY_ATTR {
        return hn::MulAdd(hn::Mul(hn::LoadU(d, r + i), hn::LoadU(d, k + i)), hn::LoadU(d, r_k + i), sum);
      });
      for_each_vector(0, in.N, [&](auto d, int64_t i) HWY_ATTR {
        hn::StoreU(hn::MulAdd(hn::LoadU(d, v + i), hn::Set(d, weight), hn::LoadU(d, o + i)), d, to + i);
      });
      if (s != nullptr) s[row * in.heads + h] = weight;
    }
}

// One head of all rows.
void bonus_backward_head(int64_t h, const StepBonus& in, const float* s, const float* dy,
                         const StepBonusGradients& gradients) {
  const int64_t at = h * in.N;
  const float* r_k = in.r_k + at;
  float* dr_k = gradients.r_k + at;
  for (int64_t row = 0; row < in.rows; ++row) {
    const float *r = in.r.row(row) + at, *k = in.k.row(row) + at, *v = in.v.row(row) + at;
    float *d_o = gradients.o.row(row) + at, *dr = gradients.r.row(row) + at, *dk = gradients.k.row(row) + at,
          *dv = gradients.v.row(row) + at;
    const float* g = dy + (row * in.heads + h) * in.N;
    const float weight = s[row * in.heads + h];
    const float ds = sum_over(in.N, [&](auto d, int64_t i, auto sum) HWY_ATTR {
      return hn::MulAdd(hn::LoadU(d, g + i), hn::LoadU(d, v + i), sum);
    });
    for_each_vector(0, in.N, [&](auto d, int64_t i) HWY_ATTR {
      const auto gi = hn::LoadU(d, g + i), ri = hn::LoadU(d, r + i), ki = hn::LoadU(d, k + i);
      const auto scaled = hn::Mul(hn::Set(d, ds), hn::LoadU(d, r_k + i));
      hn::StoreU(hn::Add(hn::LoadU(d, d_o + i), gi), d, d_o + i);
      hn::StoreU(hn::MulAdd(gi, hn::Set(d, weight), hn::LoadU(d, dv + i)), d, dv + i);
      hn::StoreU(hn::MulAdd(scaled, ki, hn::LoadU(d, dr + i)), d, dr + i);
      hn::StoreU(hn::MulAdd(scaled, ri, hn::LoadU(d, dk + i)), d, dk + i);
      hn::StoreU(hn::MulAdd(hn::Mul(hn::Set(d, ds), ri), ki, hn::LoadU(d, dr_k + i)), d, dr_k + i);
    });
  }
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(decay_rows);
HWY_EXPORT(decay_backward_columns);
HWY_EXPORT(keys_rows);
HWY_EXPORT(keys_backward_head);
HWY_EXPORT(bonus_rows);
HWY_EXPORT(bonus_backward_head);

namespace {

// work(h) for every head: by threads where all of them together are worth it.
template <class Work>
void for_every_head(int64_t rows, int64_t heads, int64_t N, const Work& work) {
  if (rows * heads * N >= kBlock) return parallel(heads, work);
  for (int64_t h = 0; h < heads; ++h) work(h);
}

}  // namespace

void bounded_decay(int64_t rows, int64_t cols, const float* z, const float* bias, float* w) {
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(decay_rows)(begin, end, cols, z, bias, w);
  });
}

void bounded_decay_backward(int64_t rows, int64_t cols, const float* z, const float* bias, const float* w,
                            const float* dw, float* dz, float* dbias) {
  parallel_columns(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(decay_backward_columns)(begin, end, rows, cols, z, bias, w, dw, dz, dbias);
  });
}

void delta_keys(const DeltaRuleKeys& in, const DeltaRuleKeyRows& out, float* inverse) {
  parallel_rows(in.rows, in.heads * in.N, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(keys_rows)(begin, end, in, out, inverse);
  });
}

void delta_keys_backward(const DeltaRuleKeys& in, const float* inverse, ConstRows erased, ConstRows dkey,
                         ConstRows derased, ConstRows dreplaced, const DeltaRuleKeysGradients& gradients) {
  for_every_head(in.rows, in.heads, in.N, [&](int64_t h) {
    HWY_DYNAMIC_DISPATCH(keys_backward_head)(h, in, inverse, erased, dkey, derased, dreplaced, gradients);
  });
}

void step_bonus(const StepBonus& in, float* y, float* s) {
  parallel_rows(in.rows, in.heads * in.N, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(bonus_rows)(begin, end, in, y, s);
  });
}

void step_bonus_backward(const StepBonus& in, const float* s, const float* dy,
                         const StepBonusGradients& gradients) {
  for_every_head(in.rows, in.heads, in.N, [&](int64_t h) {
    HWY_DYNAMIC_DISPATCH(bonus_backward_head)(h, in, s, dy, gradients);
  });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
