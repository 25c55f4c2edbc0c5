// Attention forward. The softmax is the online one (Milakov and Gimelshein 2018): a running maximum, and sums
// rescaled when it grows. One query over a long cache reads every key and value once for all heads.
//
// Work is cut into blocks of rows; a few rows over many keys are cut into parts of the keys instead, whose
// softmaxes are joined in order. Both cuts follow from the shape alone.
#include "brood/kernels/attention.h"

#include <algorithm>
#include <cmath>

#include "brood/base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/attention-inl.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_ATTENTION_PARTS_
#define BROOD_KERNELS_ATTENTION_PARTS_
namespace brood::kernels {
namespace {

constexpr int64_t kMaxParts = 16;    // of the keys
constexpr int64_t kPartKeys = 1024;  // fewest keys worth a part
constexpr int64_t kEnoughTasks = 8;  // with as many blocks of rows the keys need not be cut
// The score of a key that a row does not see; finite, so that differences are.
constexpr float kNothing = -1e30f;

}  // namespace
}  // namespace brood::kernels
#endif

// Needs the constants above.
#include "brood/kernels/attention_step-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

// The softmax of a block of rows over some of its keys, not yet divided by its sum.
template <class Block>
struct PartSoftmax {
  HWY_ALIGN float most[Block::kRows];
  HWY_ALIGN float sum[Block::kRows];
  HWY_ALIGN float O[kMaxHeadDim * Block::kRows];
};

// Turns scores S of `keys` keys from `key` into exponentials, with vector v's maximum and sum brought up to
// date. Returns the factor by which earlier sums shrink.
template <class D, class Block>
HWY_INLINE hn::Vec<D> exponentials(D d, const Block& rows, int64_t key, int64_t keys, bool masked, int v,
                                   float* S, float* most, float* sum) {
  constexpr int64_t kRows = Block::kRows;
  const auto nothing = hn::Set(d, kNothing);
  const auto before = hn::Load(d, most);
  auto now = before;
  for (int64_t k = 0; k < keys; ++k) {
    auto score = hn::Load(d, S + k * kRows);
    if (masked) {
      score = hn::IfThenElse(sees(d, rows, key + k, v), score, nothing);
      hn::Store(score, d, S + k * kRows);
    }
    now = hn::Max(now, score);
  }
  const auto shrink = Exp(d, hn::Sub(before, now));
  auto total = hn::Mul(shrink, hn::Load(d, sum));
  for (int64_t k = 0; k < keys; ++k) {
    auto p = Exp(d, hn::Sub(hn::Load(d, S + k * kRows), now));
    if (masked) p = hn::IfThenElseZero(sees(d, rows, key + k, v), p);
    hn::Store(p, d, S + k * kRows);
    total = hn::Add(total, p);
  }
  hn::Store(now, d, most);
  hn::Store(total, d, sum);
  return shrink;
}

// Rows over the keys [begin, end).
template <int V, class D>
void attend(D d, const Attention& a, const AttentionRows<D, V>& rows, const float* Q, int64_t begin,
            int64_t end, PartSoftmax<AttentionRows<D, V>>& out) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  std::fill_n(out.most, kRows, kNothing);
  std::fill_n(out.sum, kRows, 0.0f);
  std::fill_n(out.O, a.head_dim * kRows, 0.0f);
  HWY_ALIGN float S[kKeyBlock * kRows];
  for (int64_t key = begin; key < end; key += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, end - key);
    const int64_t at = rows.b * a.cache_stride + key * a.head_dim;
    scores<V>(d, a.head_dim, keys, a.keys + at, Q, S);
    const bool masked = key < rows.all_from || key + keys - 1 > rows.all_to;
    for (int v = 0; v < V; ++v) {
      const int64_t lane = v * kLanesOf<D>;
      const auto shrink = exponentials(d, rows, key - rows.first_key, keys, masked, v, S + lane,
                                       out.most + lane, out.sum + lane);
      for (int64_t i = 0; i < a.head_dim; ++i) {
        float* o = out.O + i * kRows + lane;
        hn::Store(hn::Mul(shrink, hn::Load(d, o)), d, o);
      }
    }
    values<V>(d, a.head_dim, keys, a.values + at, S, out.O);
  }
}

// Joins the softmax over later keys to `to`.
template <int V, class D>
void join(D d, int64_t head_dim, const PartSoftmax<AttentionRows<D, V>>& from,
          PartSoftmax<AttentionRows<D, V>>& to) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  for (int64_t lane = 0; lane < kRows; lane += kLanesOf<D>) {
    const auto a = hn::Load(d, to.most + lane), b = hn::Load(d, from.most + lane);
    const auto most = hn::Max(a, b);
    const auto a_factor = Exp(d, hn::Sub(a, most)), b_factor = Exp(d, hn::Sub(b, most));
    auto add = [&](float* x, const float* y) HWY_ATTR {
      hn::Store(hn::MulAdd(a_factor, hn::Load(d, x), hn::Mul(b_factor, hn::Load(d, y))), d, x);
    };
    hn::Store(most, d, to.most + lane);
    add(to.sum + lane, from.sum + lane);
    for (int64_t i = 0; i < head_dim; ++i) add(to.O + i * kRows + lane, from.O + i * kRows + lane);
  }
}

template <int V, class D>
void write_rows(D d, const Attention& a, const AttentionRows<D, V>& rows,
                PartSoftmax<AttentionRows<D, V>>& softmax, float* y, float* log_sum) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  for (int64_t lane = 0; lane < kRows; lane += kLanesOf<D>) {
    const auto inverse = hn::Div(hn::Set(d, 1.0f), hn::Load(d, softmax.sum + lane));
    for (int64_t i = 0; i < a.head_dim; ++i) {
      float* o = softmax.O + i * kRows + lane;
      hn::Store(hn::Mul(hn::Load(d, o), inverse), d, o);
    }
  }
  out_of_lanes<false>(a, rows, softmax.O, 1.0f, y, a.heads * a.head_dim);
  if (log_sum == nullptr) return;
  for (int64_t r = 0; r < rows.count; ++r)
    log_sum[rows.b * a.T * a.heads + rows.first + r] = softmax.most[r] + std::log(softmax.sum[r]);
}

template <int V, class D>
void forward_rows(D d, const Attention& a, int64_t b, int64_t first, bool cut_keys, bool large, float* y,
                  float* log_sum) {
  using Block = AttentionRows<D, V>;
  const Block rows(a, b, first);
  HWY_ALIGN float Q[kMaxHeadDim * Block::kRows];
  across_lanes(a, rows, a.q, a.q_stride, 1.0f / std::sqrt(float(a.head_dim)), Q);
  const int64_t keys = rows.last_key + 1 - rows.first_key;
  const int64_t parts = cut_keys ? std::clamp<int64_t>(keys / kPartKeys, 1, kMaxParts) : 1;
  if (parts == 1) {
    PartSoftmax<Block> whole;
    attend<V>(d, a, rows, Q, rows.first_key, rows.last_key + 1, whole);
    return write_rows<V>(d, a, rows, whole, y, log_sum);
  }
  PartSoftmax<Block> part[kMaxParts];
  run_tasks(large, parts, [&](int64_t p) {
    attend<V>(d, a, rows, Q, rows.first_key + keys * p / parts, rows.first_key + keys * (p + 1) / parts,
              part[p]);
  });
  for (int64_t p = 1; p < parts; ++p) join<V>(d, a.head_dim, part[p], part[0]);
  write_rows<V>(d, a, rows, part[0], y, log_sum);
}

template <int V, class D>
void forward_all(D d, const Attention& a, float* y, float* log_sum) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  const int64_t blocks = (a.T * a.heads + kRows - 1) / kRows;
  const bool large = products(a) >= kInlineProducts;
  const bool cut_keys = a.B * blocks < kEnoughTasks;
  // Later rows see more keys: first and last blocks alternate, so that a run of tasks is never all long ones.
  run_tasks(large && !cut_keys, a.B * blocks, [&](int64_t i) {
    const int64_t in_stream = i % blocks;
    const int64_t block = in_stream % 2 == 0 ? in_stream / 2 : blocks - 1 - in_stream / 2;
    forward_rows<V>(d, a, i / blocks, block * kRows, cut_keys, large, y, log_sum);
  });
}

void attend_forward(const Attention& a, float* y, float* log_sum) {
  if (attend_step(a, y, log_sum)) return;
  with_lanes(a, [&](auto d, auto v) { forward_all<decltype(v)::value>(d, a, y, log_sum); });
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(attend_forward);

void attention_forward(const Attention& a, float* y, float* log_sum) {
  BROOD_ASSERT(a.head_dim >= 1 && a.head_dim <= kMaxHeadDim && a.window >= 1);
  HWY_DYNAMIC_DISPATCH(attend_forward)(a, y, log_sum);
}

}  // namespace brood::kernels
#endif
