// Attention of one step (T = 1): one query a head over a long cache. Include after hwy/foreach_target.h and
// after what a part of the keys is (kMaxParts, kPartKeys, kEnoughTasks, kNothing) in attention.cc.
//
// A few heads do not fill vectors, as rows of a chunk do; here the lanes run along the head's numbers, and
// along the keys while the softmax is taken.
#if defined(BROOD_KERNELS_ATTENTION_STEP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BROOD_KERNELS_ATTENTION_STEP_INL_H_
#undef BROOD_KERNELS_ATTENTION_STEP_INL_H_
#else
#define BROOD_KERNELS_ATTENTION_STEP_INL_H_
#endif

#include <algorithm>
#include <cmath>

#include "brood/kernels/attention-inl.h"
#include "brood/kernels/four_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

using StepTag = hn::CappedTag<float, 16>;
using StepVec = hn::Vec<StepTag>;

constexpr int64_t kStepHeads = 8;  // more of them fill vectors by themselves

// The softmax of all heads over some of the keys, not yet divided by its sum.
struct StepPart {
  float most[kStepHeads], sum[kStepHeads];
  HWY_ALIGN float O[kStepHeads * kMaxHeadDim];  // [heads][head_dim]
};

// S[h·kKeyBlock + k] = q_h·key_k for H heads of J vectors; q is scaled already.
template <int J, int H>
HWY_INLINE void step_scores(int64_t keys, const float* x, const float* q, float* S) {
  const StepTag d;
  constexpr int64_t kLanes = kLanesOf<StepTag>, kDim = J * kLanes;
  StepVec query[H][J];
  for (int h = 0; h < H; ++h)
    for (int j = 0; j < J; ++j) query[h][j] = hn::LoadU(d, q + h * kDim + j * kLanes);
  for (int64_t k = 0; k < keys; k += 4) {
    StepVec sum[H][4];
    for (int64_t i = 0; i < 4; ++i) {
      const float* key = x + std::min(k + i, keys - 1) * kDim;
      for (int j = 0; j < J; ++j) {
        const auto number = hn::LoadU(d, key + j * kLanes);
        for (int h = 0; h < H; ++h)
          sum[h][i] = j == 0 ? hn::Mul(number, query[h][0]) : hn::MulAdd(number, query[h][j], sum[h][i]);
      }
    }
    for (int h = 0; h < H; ++h)
      SumsOfFour(d, sum[h][0], sum[h][1], sum[h][2], sum[h][3], S + h * kKeyBlock + k);
  }
}

// O_h = shrink_h·O_h + Σ_k S[h][k]·value_k for H heads of J vectors.
template <int J, int H>
HWY_INLINE void step_values(int64_t keys, const float* x, const float* S, const float* shrink, float* O) {
  const StepTag d;
  constexpr int64_t kLanes = kLanesOf<StepTag>, kDim = J * kLanes;
  StepVec sum[H][J];
  for (int h = 0; h < H; ++h)
    for (int j = 0; j < J; ++j)
      sum[h][j] = hn::Mul(hn::Set(d, shrink[h]), hn::LoadU(d, O + h * kDim + j * kLanes));
  for (int64_t k = 0; k < keys; ++k)
    for (int j = 0; j < J; ++j) {
      const auto value = hn::LoadU(d, x + k * kDim + j * kLanes);
      for (int h = 0; h < H; ++h) sum[h][j] = hn::MulAdd(hn::Set(d, S[h * kKeyBlock + k]), value, sum[h][j]);
    }
  for (int h = 0; h < H; ++h)
    for (int j = 0; j < J; ++j) hn::StoreU(sum[h][j], d, O + h * kDim + j * kLanes);
}

// Turns the scores of one head into exponentials and brings its maximum and sum up to date. Returns the factor
// by which earlier sums shrink. Scores behind the last key, to a whole vector, are overwritten.
HWY_INLINE float step_exponentials(int64_t keys, float* S, float& most, float& sum) {
  const StepTag d;
  constexpr int64_t kLanes = kLanesOf<StepTag>;
  std::fill(S + keys, S + (keys + kLanes - 1) / kLanes * kLanes, kNothing);
  auto largest = hn::Set(d, most);
  for (int64_t k = 0; k < keys; k += kLanes) largest = hn::Max(largest, hn::Load(d, S + k));
  largest = hn::MaxOfLanes(d, largest);
  const float shrink = hn::GetLane(Exp(d, hn::Sub(hn::Set(d, most), largest)));
  auto total = hn::Zero(d);
  for (int64_t k = 0; k < keys; k += kLanes) {
    const auto p = Exp(d, hn::Sub(hn::Load(d, S + k), largest));
    hn::Store(p, d, S + k);
    total = hn::Add(total, p);
  }
  most = hn::GetLane(largest);
  sum = shrink * sum + hn::GetLane(hn::SumOfLanes(d, total));
  return shrink;
}

// All heads of stream b over the keys [begin, end).
template <int J>
void step_attend(const Attention& a, int64_t b, const float* q, int64_t begin, int64_t end, StepPart& out) {
  // Two heads share what is read, where there are registers for them.
  constexpr int kTogether = J <= 4 && HWY_TARGET <= HWY_AVX3 ? 2 : 1;
  std::fill_n(out.most, a.heads, kNothing);
  std::fill_n(out.sum, a.heads, 0.0f);
  std::fill_n(out.O, a.heads * a.head_dim, 0.0f);
  HWY_ALIGN float S[kStepHeads * kKeyBlock];
  float shrink[kStepHeads];
  const auto pairs = [&](auto&& one) HWY_ATTR {
    int64_t h = 0;
    for (; h + kTogether <= a.heads; h += kTogether) one(h, std::integral_constant<int, kTogether>());
    for (; h < a.heads; ++h) one(h, std::integral_constant<int, 1>());
  };
  for (int64_t key = begin; key < end; key += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, end - key);
    const int64_t at = b * a.cache_stride + key * a.head_dim;
    pairs([&](int64_t h, auto heads) HWY_ATTR {
      step_scores<J, decltype(heads)::value>(keys, a.keys + at, q + h * a.head_dim, S + h * kKeyBlock);
    });
    for (int64_t h = 0; h < a.heads; ++h)
      shrink[h] = step_exponentials(keys, S + h * kKeyBlock, out.most[h], out.sum[h]);
    pairs([&](int64_t h, auto heads) HWY_ATTR {
      step_values<J, decltype(heads)::value>(keys, a.values + at, S + h * kKeyBlock, shrink + h,
                                             out.O + h * a.head_dim);
    });
  }
}

// Joins the softmax over later keys to `to`.
inline void step_join(const Attention& a, const StepPart& from, StepPart& to) {
  for (int64_t h = 0; h < a.heads; ++h) {
    const float most = std::max(from.most[h], to.most[h]);
    const float mine = std::exp(to.most[h] - most), its = std::exp(from.most[h] - most);
    to.most[h] = most;
    to.sum[h] = mine * to.sum[h] + its * from.sum[h];
    for (int64_t i = h * a.head_dim; i < (h + 1) * a.head_dim; ++i)
      to.O[i] = mine * to.O[i] + its * from.O[i];
  }
}

template <int J>
void step_stream(const Attention& a, int64_t b, bool cut_keys, bool large, float* y, float* log_sum) {
  const int64_t width = a.heads * a.head_dim;
  HWY_ALIGN float q[kStepHeads * kMaxHeadDim];
  const float scale = 1.0f / std::sqrt(float(a.head_dim));
  for (int64_t i = 0; i < width; ++i) q[i] = scale * a.q[b * a.q_stride + i];
  const int64_t end = a.start[b] + 1, begin = std::max<int64_t>(0, end - a.window), keys = end - begin;
  const int64_t parts = cut_keys ? std::clamp<int64_t>(keys / kPartKeys, 1, kMaxParts) : 1;
  StepPart part[kMaxParts];
  run_tasks(large, parts, [&](int64_t p) {
    step_attend<J>(a, b, q, begin + keys * p / parts, begin + keys * (p + 1) / parts, part[p]);
  });
  for (int64_t p = 1; p < parts; ++p) step_join(a, part[p], part[0]);
  for (int64_t i = 0; i < width; ++i) y[b * width + i] = part[0].O[i] / part[0].sum[i / a.head_dim];
  if (log_sum == nullptr) return;
  for (int64_t h = 0; h < a.heads; ++h) log_sum[b * a.heads + h] = part[0].most[h] + std::log(part[0].sum[h]);
}

// Says false, and does nothing, for shapes that are not of this kind.
inline bool attend_step(const Attention& a, float* y, float* log_sum) {
  constexpr int64_t kLanes = kLanesOf<StepTag>;
  if (a.T != 1 || a.heads > kStepHeads || a.head_dim % kLanes != 0) return false;
  const auto streams = [&](auto vectors) {
    const bool large = products(a) >= kInlineProducts, cut_keys = a.B < kEnoughTasks;
    run_tasks(large && !cut_keys, a.B,
              [&](int64_t b) { step_stream<decltype(vectors)::value>(a, b, cut_keys, large, y, log_sum); });
    return true;
  };
  switch (a.head_dim / kLanes) {
    case 1:
      return streams(std::integral_constant<int, 1>());
    case 2:
      return streams(std::integral_constant<int, 2>());
    case 4:
      return streams(std::integral_constant<int, 4>());
    case 8:
      return streams(std::integral_constant<int, 8>());
    default:
      return false;
  }
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_ATTENTION_STEP_INL_H_
