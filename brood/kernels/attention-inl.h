// What attention's forward and backward share. Include after hwy/foreach_target.h.
//
// All heads share each key, so every (query, head) pair of a stream is a row of its own that meets the same
// keys, and rows run along the vector lanes. Keys and values are read as they lie in the cache, one number at
// a time broadcast to all lanes:
//
//   scores    S[k][r]  = Σ_i key[k][i] · Q[i][r]         a block of keys, all rows
//   values    O[i][r] += Σ_k value[k][i] · P[k][r]
//
// so neither product transposes the cache, and maximum, exponential and sum of the softmax are per lane.
#if defined(BROOD_KERNELS_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BROOD_KERNELS_ATTENTION_INL_H_
#undef BROOD_KERNELS_ATTENTION_INL_H_
#else
#define BROOD_KERNELS_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "brood/base/threads.h"
#include "brood/kernels/attention.h"
#include "brood/kernels/four_vectors-inl.h"
#include "brood/kernels/vector_math-inl.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_ATTENTION_SHAPES_
#define BROOD_KERNELS_ATTENTION_SHAPES_
namespace brood::kernels {

constexpr int64_t kMaxRows = 32;  // rows of a block: two of the widest vectors
// Keys between two rescalings; the scores of a block of rows with them stay in the first-level cache.
constexpr int64_t kKeyBlock = 64;
constexpr int64_t kInlineProducts = 500'000;  // smaller than this in multiply-adds: not worth a second thread

// Multiply-adds of the scores.
inline int64_t products(const Attention& a) {
  int64_t keys = 0;
  for (int64_t b = 0; b < a.B; ++b) keys += std::min(a.start[b] + a.T, a.window);
  return keys * a.T * a.heads * a.head_dim;
}

inline int64_t padded(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

// Runs task(i) for 0 <= i < n, by the pool where the whole is large.
template <class Task>
void run_tasks(bool large, int64_t n, Task&& task) {
  if (large)
    parallel(n, task);
  else
    for (int64_t i = 0; i < n; ++i) task(i);
}

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

template <class D>
constexpr int64_t kLanesOf = int64_t(hn::MaxLanes(D()));

// Rows of one block: V vectors of D. Rows beyond the last see no key.
template <class D, int V>
struct AttentionRows {
  static constexpr int64_t kRows = V * kLanesOf<D>;
  int64_t b, first, count;        // of the stream's T·heads rows
  int64_t first_key, last_key;    // that any row sees
  int64_t all_from, all_to;       // keys that every row sees
  HWY_ALIGN int32_t from[kRows];  // keys that a row sees, counted from first_key
  HWY_ALIGN int32_t to[kRows];

  AttentionRows(const Attention& a, int64_t stream, int64_t first_row) : b(stream), first(first_row) {
    count = std::min(kRows, a.T * a.heads - first);
    auto oldest = [&](int64_t t) { return std::max<int64_t>(0, a.start[b] + t + 1 - a.window); };
    first_key = oldest(first / a.heads);
    last_key = a.start[b] + (first + count - 1) / a.heads;
    all_from = oldest((first + count - 1) / a.heads);
    all_to = count == kRows ? a.start[b] + first / a.heads : -1;
    for (int64_t r = 0; r < kRows; ++r) {
      const int64_t t = (first + r) / a.heads;
      from[r] = r < count ? int32_t(oldest(t) - first_key) : 1;
      to[r] = r < count ? int32_t(a.start[b] + t - first_key) : 0;
    }
  }
};

// Row r of a [B·T, heads·head_dim] array.
template <class T>
T* row_of(const Attention& a, int64_t b, int64_t r, T* x, int64_t stride) {
  return x + (b * a.T + r / a.heads) * stride + r % a.heads * a.head_dim;
}

// to(i)[r] (+)= scale·from(r)[i] for 0 <= r < rows, 0 <= i < cols, where from and to give the beginning of a
// row.
template <bool kAdd, class From, class To>
HWY_INLINE void transpose(int64_t rows, int64_t cols, float scale, const From& from, const To& to) {
  int64_t first = 0;
  auto one_by_one = [&](int64_t r, int64_t begin) {
    for (int64_t i = begin; i < cols; ++i) to(i)[r] = scale * from(r)[i] + (kAdd ? to(i)[r] : 0.0f);
  };
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<float, 4> d;
  const auto factor = hn::Set(d, scale);
  const int64_t whole_cols = cols / 4 * 4;
  for (; first + 4 <= rows; first += 4) {
    const int64_t r = first;
    for (int64_t i = 0; i < whole_cols; i += 4) {
      auto a = hn::LoadU(d, from(r) + i), b = hn::LoadU(d, from(r + 1) + i);
      auto c = hn::LoadU(d, from(r + 2) + i), e = hn::LoadU(d, from(r + 3) + i);
      TurnFour(d, a, b, c, e);
      auto put = [&](int64_t at, hn::Vec<decltype(d)> v) HWY_ATTR {
        float* p = to(at) + r;
        hn::StoreU(kAdd ? hn::MulAdd(v, factor, hn::LoadU(d, p)) : hn::Mul(v, factor), d, p);
      };
      put(i, a);
      put(i + 1, b);
      put(i + 2, c);
      put(i + 3, e);
    }
    for (int64_t k = 0; k < 4; ++k) one_by_one(r + k, whole_cols);
  }
#endif
  for (int64_t r = first; r < rows; ++r) one_by_one(r, 0);
}

// Where the rows of a block begin in a [B·T, heads·head_dim] array.
template <class T, class Block>
struct RowPointers {
  T* at[Block::kRows];
  RowPointers(const Attention& a, const Block& rows, T* x, int64_t stride) {
    for (int64_t r = 0; r < rows.count; ++r) at[r] = row_of(a, rows.b, rows.first + r, x, stride);
  }
  T* operator()(int64_t r) const { return at[r]; }
};

// to[i][r] = scale·row r[i]; lanes without a row are 0.
template <class Block>
void across_lanes(const Attention& a, const Block& rows, const float* x, int64_t stride, float scale,
                  float* to) {
  auto lanes = [&](int64_t i) { return to + i * Block::kRows; };
  transpose<false>(rows.count, a.head_dim, scale, RowPointers<const float, Block>(a, rows, x, stride), lanes);
  if (rows.count == Block::kRows) return;
  for (int64_t i = 0; i < a.head_dim; ++i) std::fill(lanes(i) + rows.count, lanes(i) + Block::kRows, 0.0f);
}

// row r[i] (+)= scale·from[i][r].
template <bool kAdd, class Block>
void out_of_lanes(const Attention& a, const Block& rows, const float* from, float scale, float* x,
                  int64_t stride) {
  auto lanes = [&](int64_t i) { return from + i * Block::kRows; };
  transpose<kAdd>(a.head_dim, rows.count, scale, lanes, RowPointers<float, Block>(a, rows, x, stride));
}

// S[k][r] = Σ_i x[k][i]·Q[i][r] for K keys.
template <int K, int V, class D>
HWY_INLINE void scores_tile(D d, int64_t head_dim, const float* x, const float* Q, float* S) {
  hn::Vec<D> sum[K][V];
  for (int k = 0; k < K; ++k)
    for (int v = 0; v < V; ++v) sum[k][v] = hn::Zero(d);
  for (int64_t i = 0; i < head_dim; ++i) {
    hn::Vec<D> q[V];
    for (int v = 0; v < V; ++v) q[v] = hn::Load(d, Q + (i * V + v) * kLanesOf<D>);
    for (int k = 0; k < K; ++k) {
      const auto key = hn::Set(d, x[k * head_dim + i]);
      for (int v = 0; v < V; ++v) sum[k][v] = hn::MulAdd(key, q[v], sum[k][v]);
    }
  }
  for (int k = 0; k < K; ++k)
    for (int v = 0; v < V; ++v) hn::Store(sum[k][v], d, S + (k * V + v) * kLanesOf<D>);
}

// O[i][r] += Σ_k x[k][i]·P[k][r] for I columns.
template <int I, int V, class D>
HWY_INLINE void values_tile(D d, int64_t head_dim, int64_t keys, const float* x, const float* P, float* O) {
  hn::Vec<D> sum[I][V];
  for (int i = 0; i < I; ++i)
    for (int v = 0; v < V; ++v) sum[i][v] = hn::Load(d, O + (i * V + v) * kLanesOf<D>);
  for (int64_t k = 0; k < keys; ++k) {
    hn::Vec<D> p[V];
    for (int v = 0; v < V; ++v) p[v] = hn::Load(d, P + (k * V + v) * kLanesOf<D>);
    for (int i = 0; i < I; ++i) {
      const auto value = hn::Set(d, x[k * head_dim + i]);
      for (int v = 0; v < V; ++v) sum[i][v] = hn::MulAdd(value, p[v], sum[i][v]);
    }
  }
  for (int i = 0; i < I; ++i)
    for (int v = 0; v < V; ++v) hn::Store(sum[i][v], d, O + (i * V + v) * kLanesOf<D>);
}

// Sums in registers: as many as 16 vector registers allow, or 32.
template <int V>
constexpr int kTile = (V == 1 || HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64) ? 8 : 4;

template <int V, class D>
void scores(D d, int64_t head_dim, int64_t keys, const float* x, const float* Q, float* S) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  int64_t k = 0;
  for (; k + kTile<V> <= keys; k += kTile<V>)
    scores_tile<kTile<V>, V>(d, head_dim, x + k * head_dim, Q, S + k * kRows);
  for (; k < keys; ++k) scores_tile<1, V>(d, head_dim, x + k * head_dim, Q, S + k * kRows);
}

template <int V, class D>
void values(D d, int64_t head_dim, int64_t keys, const float* x, const float* P, float* O) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  int64_t i = 0;
  for (; i + kTile<V> <= head_dim; i += kTile<V>)
    values_tile<kTile<V>, V>(d, head_dim, keys, x + i, P, O + i * kRows);
  for (; i < head_dim; ++i) values_tile<1, V>(d, head_dim, keys, x + i, P, O + i * kRows);
}

// Lanes of v that see the key `key` (counted from first_key).
template <class D, class Block>
HWY_INLINE hn::Mask<D> sees(D d, const Block& rows, int64_t key, int v) {
  const hn::RebindToSigned<D> di;
  const auto at = hn::Set(di, int32_t(key));
  const auto from = hn::Load(di, rows.from + v * kLanesOf<D>), to = hn::Load(di, rows.to + v * kLanesOf<D>);
  return hn::RebindMask(d, hn::Not(hn::Or(hn::Lt(at, from), hn::Gt(at, to))));
}

// Calls function(d, V) with vectors no wider than the rows need.
template <class Function>
void with_lanes(const Attention& a, const Function& function) {
  const int64_t rows = a.T * a.heads;
  const hn::CappedTag<float, 4> d4;
  const hn::CappedTag<float, 8> d8;
  const hn::CappedTag<float, 16> d;
  if (rows <= kLanesOf<decltype(d4)>)
    function(d4, std::integral_constant<int, 1>());
  else if (rows <= kLanesOf<decltype(d8)>)
    function(d8, std::integral_constant<int, 1>());
  else if (rows <= kLanesOf<decltype(d)>)
    function(d, std::integral_constant<int, 1>());
  else
    function(d, std::integral_constant<int, 2>());
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_ATTENTION_INL_H_
