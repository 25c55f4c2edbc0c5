// Attention backward, with the probabilities made again from the kept log-sums (Dao et al. 2022):
//
//   dP = V·dY    dS = P∘(dP − dY·Y)    dQ += K·dS    dV += P·dY    dK += dS·Q
//
// Blocks of rows are dealt to a fixed number of groups, each with its own dK and dV, which are added in
// order.
#include <algorithm>
#include <cmath>

#include "brood/base/error.h"
#include "brood/kernels/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/attention_backward.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/attention-inl.h"
#include "brood/kernels/vector_loop-inl.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_ATTENTION_GROUPS_
#define BROOD_KERNELS_ATTENTION_GROUPS_
namespace brood::kernels {
namespace {

constexpr int64_t kBackwardGroups = 8;

inline int64_t backward_groups(const Attention& a) {
  return std::clamp<int64_t>(kBackwardGroups / a.B, 1, (a.T * a.heads + kMaxRows - 1) / kMaxRows);
}

}  // namespace
}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

// What backward needs of a block of rows.
template <class Block>
struct BackwardRows {
  HWY_ALIGN float Q[kMaxHeadDim * Block::kRows];   // scaled, across lanes
  HWY_ALIGN float dY[kMaxHeadDim * Block::kRows];  // across lanes
  HWY_ALIGN float dQ[kMaxHeadDim * Block::kRows];
  HWY_ALIGN float q_rows[Block::kRows * kMaxHeadDim];  // scaled, as rows of padded(head_dim)
  HWY_ALIGN float dy_rows[Block::kRows * kMaxHeadDim];
  HWY_ALIGN float log_sum[Block::kRows];
  HWY_ALIGN float inner[Block::kRows];  // dy·y

  BackwardRows(const Attention& a, const Block& rows, const float* y, const float* sums, const float* dy) {
    const float scale = 1.0f / std::sqrt(float(a.head_dim));
    const int64_t width = padded(a.head_dim);
    across_lanes(a, rows, a.q, a.q_stride, scale, Q);
    across_lanes(a, rows, dy, a.heads * a.head_dim, 1.0f, dY);
    std::fill_n(dQ, a.head_dim * Block::kRows, 0.0f);
    std::fill_n(log_sum, Block::kRows, 0.0f);
    std::fill_n(inner, Block::kRows, 0.0f);
    for (int64_t r = 0; r < rows.count; ++r) {
      const int64_t row = rows.first + r;
      const float* y_row = row_of(a, rows.b, row, y, a.heads * a.head_dim);
      const float* dy_row = row_of(a, rows.b, row, dy, a.heads * a.head_dim);
      const float* q_row = row_of(a, rows.b, row, a.q, a.q_stride);
      log_sum[r] = sums[rows.b * a.T * a.heads + row];
      inner[r] = sum_over(a.head_dim, [&](auto d, int64_t i, auto sum) HWY_ATTR {
        return hn::MulAdd(hn::LoadU(d, dy_row + i), hn::LoadU(d, y_row + i), sum);
      });
      std::fill_n(q_rows + r * width + a.head_dim, width - a.head_dim, 0.0f);
      std::fill_n(dy_rows + r * width + a.head_dim, width - a.head_dim, 0.0f);
      for_each_vector(0, a.head_dim, [&](auto d, int64_t i) HWY_ATTR {
        hn::StoreU(hn::Mul(hn::Set(d, scale), hn::LoadU(d, q_row + i)), d, q_rows + r * width + i);
        hn::StoreU(hn::LoadU(d, dy_row + i), d, dy_rows + r * width + i);
      });
    }
  }
};

// From scores S and dP (both [keys][rows]) to P and dS, in their places.
template <int V, class D>
void softmax_gradient(D d, const AttentionRows<D, V>& rows, int64_t key, int64_t keys, bool masked,
                      const float* log_sum, const float* inner, float* S, float* dP) {
  for (int v = 0; v < V; ++v) {
    const int64_t lane = v * kLanesOf<D>;
    const auto sum = hn::Load(d, log_sum + lane), mean = hn::Load(d, inner + lane);
    for (int64_t k = 0; k < keys; ++k) {
      const int64_t at = k * V * kLanesOf<D> + lane;
      auto p = Exp(d, hn::Sub(hn::Load(d, S + at), sum));
      if (masked) p = hn::IfThenElseZero(sees(d, rows, key + k, v), p);
      hn::Store(p, d, S + at);
      hn::Store(hn::Mul(p, hn::Sub(hn::Load(d, dP + at), mean)), d, dP + at);
    }
  }
}

// G[k][:] += Σ_r W[k][r]·Z[r][:] for K keys; rows of G and Z are `width` long, a multiple of 16.
template <int K, class D>
HWY_INLINE void keys_tile(D d, int64_t width, int64_t rows, int64_t w_stride, const float* W, const float* Z,
                          float* G) {
  constexpr int64_t kLanes = kLanesOf<D>;
  for (int64_t i = 0; i < width; i += kLanes) {
    hn::Vec<D> sum[K];
    for (int k = 0; k < K; ++k) sum[k] = hn::LoadU(d, G + k * width + i);
    for (int64_t r = 0; r < rows; ++r) {
      const auto z = hn::Load(d, Z + r * width + i);
      for (int k = 0; k < K; ++k) sum[k] = hn::MulAdd(hn::Set(d, W[k * w_stride + r]), z, sum[k]);
    }
    for (int k = 0; k < K; ++k) hn::StoreU(sum[k], d, G + k * width + i);
  }
}

void sum_over_rows(int64_t width, int64_t keys, int64_t rows, int64_t w_stride, const float* W,
                   const float* Z, float* G) {
  const hn::CappedTag<float, 16> d;
  int64_t k = 0;
  for (; k + 8 <= keys; k += 8) keys_tile<8>(d, width, rows, w_stride, W + k * w_stride, Z, G + k * width);
  for (; k < keys; ++k) keys_tile<1>(d, width, rows, w_stride, W + k * w_stride, Z, G + k * width);
}

// One block of rows: its dq, and its part of the chunk's dK and dV ([T][padded(head_dim)]).
template <int V, class D>
void backward_block(D d, const Attention& a, int64_t b, int64_t first, const float* y, const float* log_sum,
                    const float* dy, float* dq, int64_t dq_stride, float* dK, float* dV) {
  using Block = AttentionRows<D, V>;
  constexpr int64_t kRows = Block::kRows;
  const Block rows(a, b, first);
  BackwardRows<Block> own(a, rows, y, log_sum, dy);
  const int64_t width = padded(a.head_dim);
  HWY_ALIGN float S[kKeyBlock * kRows];
  HWY_ALIGN float dS[kKeyBlock * kRows];
  for (int64_t key = rows.first_key; key <= rows.last_key; key += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, rows.last_key + 1 - key);
    const int64_t at = b * a.cache_stride + key * a.head_dim;
    scores<V>(d, a.head_dim, keys, a.keys + at, own.Q, S);
    scores<V>(d, a.head_dim, keys, a.values + at, own.dY, dS);
    const bool masked = key < rows.all_from || key + keys - 1 > rows.all_to;
    softmax_gradient<V>(d, rows, key - rows.first_key, keys, masked, own.log_sum, own.inner, S, dS);
    values<V>(d, a.head_dim, keys, a.keys + at, dS, own.dQ);
    const int64_t skip = std::clamp<int64_t>(a.start[b] - key, 0, keys);  // older rows are constants
    const int64_t to = (key + skip - a.start[b]) * width;
    sum_over_rows(width, keys - skip, rows.count, kRows, S + skip * kRows, own.dy_rows, dV + to);
    sum_over_rows(width, keys - skip, rows.count, kRows, dS + skip * kRows, own.q_rows, dK + to);
  }
  const float scale = 1.0f / std::sqrt(float(a.head_dim));
  out_of_lanes<true>(a, rows, own.dQ, scale, dq, dq_stride);
}

void attend_backward(const Attention& a, const float* y, const float* log_sum, const float* dy, float* dq,
                     int64_t dq_stride, float* scratch) {
  const int64_t groups = backward_groups(a);
  const int64_t size = a.T * padded(a.head_dim);
  run_tasks(products(a) >= kInlineProducts, a.B * groups, [&](int64_t i) {
    float* dK = scratch + i * 2 * size;
    std::fill_n(dK, 2 * size, 0.0f);
    with_lanes(a, [&](auto d, auto v) {
      constexpr int64_t kRows = decltype(v)::value * kLanesOf<decltype(d)>;
      for (int64_t first = i % groups * kRows; first < a.T * a.heads; first += groups * kRows)
        backward_block<decltype(v)::value>(d, a, i / groups, first, y, log_sum, dy, dq, dq_stride, dK,
                                           dK + size);
    });
  });
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(attend_backward);

int64_t attention_backward_scratch(const Attention& a) {
  return a.B * backward_groups(a) * 2 * a.T * padded(a.head_dim);
}

void attention_backward(const Attention& a, const float* y, const float* log_sum, const float* dy, float* dq,
                        int64_t dq_stride, float* dkeys, float* dvalues, float* scratch) {
  BROOD_ASSERT(a.head_dim >= 1 && a.head_dim <= kMaxHeadDim && a.window >= 1);
  HWY_DYNAMIC_DISPATCH(attend_backward)(a, y, log_sum, dy, dq, dq_stride, scratch);
  const int64_t groups = backward_groups(a), width = padded(a.head_dim);
  for (int64_t i = 0; i < a.B * groups; ++i) {
    const float* dK = scratch + i * 2 * a.T * width;
    const float* dV = dK + a.T * width;
    for (int64_t t = 0; t < a.T; ++t) {
      const int64_t row = (i / groups * a.T + t) * a.head_dim;
      for (int64_t j = 0; j < a.head_dim; ++j) {
        dkeys[row + j] += dK[t * width + j];
        dvalues[row + j] += dV[t * width + j];
      }
    }
  }
}

}  // namespace brood::kernels
#endif
