// All heads share each key, so every (query, head) pair of a stream is a row of its own that meets the same
// keys, and rows run along the vector lanes. Keys and values are read as they lie in the cache, one number at
// a time broadcast to all lanes:
//
//   scores    S[k][r]  = Σ_i key[k][i] · Q[i][r]         a block of keys, all rows
//   values    O[i][r] += Σ_k value[k][i] · P[k][r]
//
// so neither product transposes the cache, and maximum, exponential and sum of the softmax are per lane. The
// softmax is the online one (Milakov and Gimelshein 2018): a running maximum, and sums rescaled when it
// grows. One query over a long cache reads every key and value once for all heads.
//
// Work is cut into blocks of rows; a few rows over many keys are cut into parts of the keys instead, whose
// softmaxes are joined in order. Both cuts follow from the shape alone.
#include "brood/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "brood/base/error.h"
#include "brood/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/vector_math-inl.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_ATTENTION_SHAPES_
#define BROOD_KERNELS_ATTENTION_SHAPES_
namespace brood::kernels {

constexpr int64_t kMaxRows = 32;  // rows of a block: two of the widest vectors
constexpr int64_t kKeyBlock =
    64;  // keys between two rescalings; scores of a block stay in the first-level cache
constexpr int64_t kMaxParts = 16;    // of the keys
constexpr int64_t kPartKeys = 1024;  // fewest keys worth a part
constexpr int64_t kEnoughTasks = 8;  // with as many blocks of rows the keys need not be cut
constexpr int64_t kBackwardGroups = 8;
constexpr int64_t kInlineProducts = 500'000;  // smaller than this in multiply-adds: not worth a second thread
constexpr float kNothing =
    -1e30f;  // the score of a key that a row does not see; finite, so that differences are

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

inline int64_t backward_groups(const Attention& a) {
  return std::clamp<int64_t>(kBackwardGroups / a.B, 1, (a.T * a.heads + kMaxRows - 1) / kMaxRows);
}

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

template <class D>
constexpr int64_t kLanesOf = int64_t(hn::MaxLanes(D()));

// Rows of one block: V vectors of D. Rows beyond the last see no key.
template <class D, int V>
struct Rows {
  static constexpr int64_t kRows = V * kLanesOf<D>;
  int64_t b, first, count;        // of the stream's T·heads rows
  int64_t first_key, last_key;    // that any row sees
  int64_t all_from, all_to;       // keys that every row sees
  HWY_ALIGN int32_t from[kRows];  // keys that a row sees, counted from first_key
  HWY_ALIGN int32_t to[kRows];

  Rows(const Attention& a, int64_t stream, int64_t first_row) : b(stream), first(first_row) {
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
T* RowOf(const Attention& a, int64_t b, int64_t r, T* x, int64_t stride) {
  return x + (b * a.T + r / a.heads) * stride + r % a.heads * a.head_dim;
}

// to[i][r] = scale·row r[i]; lanes without a row are 0.
template <class Block>
void Transpose(const Attention& a, const Block& rows, const float* x, int64_t stride, float scale,
               float* to) {
  for (int64_t r = 0; r < Block::kRows; ++r) {
    const float* row = r < rows.count ? RowOf(a, rows.b, rows.first + r, x, stride) : nullptr;
    for (int64_t i = 0; i < a.head_dim; ++i)
      to[i * Block::kRows + r] = row != nullptr ? scale * row[i] : 0.0f;
  }
}

// S[k][r] = Σ_i x[k][i]·Q[i][r] for K keys.
template <int K, int V, class D>
HWY_INLINE void ScoresTile(D d, int64_t head_dim, const float* x, const float* Q, float* S) {
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
HWY_INLINE void ValuesTile(D d, int64_t head_dim, int64_t keys, const float* x, const float* P, float* O) {
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
void Scores(D d, int64_t head_dim, int64_t keys, const float* x, const float* Q, float* S) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  int64_t k = 0;
  for (; k + kTile<V> <= keys; k += kTile<V>)
    ScoresTile<kTile<V>, V>(d, head_dim, x + k * head_dim, Q, S + k * kRows);
  for (; k < keys; ++k) ScoresTile<1, V>(d, head_dim, x + k * head_dim, Q, S + k * kRows);
}

template <int V, class D>
void Values(D d, int64_t head_dim, int64_t keys, const float* x, const float* P, float* O) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  int64_t i = 0;
  for (; i + kTile<V> <= head_dim; i += kTile<V>)
    ValuesTile<kTile<V>, V>(d, head_dim, keys, x + i, P, O + i * kRows);
  for (; i < head_dim; ++i) ValuesTile<1, V>(d, head_dim, keys, x + i, P, O + i * kRows);
}

// The softmax of a block of rows over some of its keys, not yet divided by its sum.
template <class Block>
struct Softmax {
  HWY_ALIGN float most[Block::kRows];
  HWY_ALIGN float sum[Block::kRows];
  HWY_ALIGN float O[kMaxHeadDim * Block::kRows];
};

// Lanes of v that see the key `key` (counted from first_key).
template <class D, class Block>
HWY_INLINE hn::Mask<D> Sees(D d, const Block& rows, int64_t key, int v) {
  const hn::RebindToSigned<D> di;
  const auto at = hn::Set(di, int32_t(key));
  const auto from = hn::Load(di, rows.from + v * kLanesOf<D>), to = hn::Load(di, rows.to + v * kLanesOf<D>);
  return hn::RebindMask(d, hn::Not(hn::Or(hn::Lt(at, from), hn::Gt(at, to))));
}

// Turns scores S of `keys` keys from `key` into exponentials, with vector v's maximum and sum brought up to
// date. Returns the factor by which earlier sums shrink.
template <class D, class Block>
HWY_INLINE hn::Vec<D> Exponentials(D d, const Block& rows, int64_t key, int64_t keys, bool masked, int v,
                                   float* S, float* most, float* sum) {
  constexpr int64_t kRows = Block::kRows;
  const auto nothing = hn::Set(d, kNothing);
  const auto before = hn::Load(d, most);
  auto now = before;
  for (int64_t k = 0; k < keys; ++k) {
    auto score = hn::Load(d, S + k * kRows);
    if (masked) {
      score = hn::IfThenElse(Sees(d, rows, key + k, v), score, nothing);
      hn::Store(score, d, S + k * kRows);
    }
    now = hn::Max(now, score);
  }
  const auto shrink = Exp(d, hn::Sub(before, now));
  auto total = hn::Mul(shrink, hn::Load(d, sum));
  for (int64_t k = 0; k < keys; ++k) {
    auto p = Exp(d, hn::Sub(hn::Load(d, S + k * kRows), now));
    if (masked) p = hn::IfThenElseZero(Sees(d, rows, key + k, v), p);
    hn::Store(p, d, S + k * kRows);
    total = hn::Add(total, p);
  }
  hn::Store(now, d, most);
  hn::Store(total, d, sum);
  return shrink;
}

// Rows over the keys [begin, end).
template <int V, class D>
void Attend(D d, const Attention& a, const Rows<D, V>& rows, const float* Q, int64_t begin, int64_t end,
            Softmax<Rows<D, V>>& out) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  std::fill_n(out.most, kRows, kNothing);
  std::fill_n(out.sum, kRows, 0.0f);
  std::fill_n(out.O, a.head_dim * kRows, 0.0f);
  HWY_ALIGN float S[kKeyBlock * kRows];
  for (int64_t key = begin; key < end; key += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, end - key);
    const int64_t at = rows.b * a.cache_stride + key * a.head_dim;
    Scores<V>(d, a.head_dim, keys, a.keys + at, Q, S);
    const bool masked = key < rows.all_from || key + keys - 1 > rows.all_to;
    for (int v = 0; v < V; ++v) {
      const int64_t lane = v * kLanesOf<D>;
      const auto shrink = Exponentials(d, rows, key - rows.first_key, keys, masked, v, S + lane,
                                       out.most + lane, out.sum + lane);
      for (int64_t i = 0; i < a.head_dim; ++i) {
        float* o = out.O + i * kRows + lane;
        hn::Store(hn::Mul(shrink, hn::Load(d, o)), d, o);
      }
    }
    Values<V>(d, a.head_dim, keys, a.values + at, S, out.O);
  }
}

// Joins the softmax over later keys to `to`.
template <int V, class D>
void Join(D d, int64_t head_dim, const Softmax<Rows<D, V>>& from, Softmax<Rows<D, V>>& to) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  for (int64_t lane = 0; lane < kRows; lane += kLanesOf<D>) {
    const auto a = hn::Load(d, to.most + lane), b = hn::Load(d, from.most + lane);
    const auto most = hn::Max(a, b);
    const auto a_factor = Exp(d, hn::Sub(a, most)), b_factor = Exp(d, hn::Sub(b, most));
    auto join = [&](float* x, const float* y) HWY_ATTR {
      hn::Store(hn::MulAdd(a_factor, hn::Load(d, x), hn::Mul(b_factor, hn::Load(d, y))), d, x);
    };
    hn::Store(most, d, to.most + lane);
    join(to.sum + lane, from.sum + lane);
    for (int64_t i = 0; i < head_dim; ++i) join(to.O + i * kRows + lane, from.O + i * kRows + lane);
  }
}

template <class Block>
void WriteRows(const Attention& a, const Block& rows, const Softmax<Block>& softmax, float* y,
               float* log_sum) {
  for (int64_t r = 0; r < rows.count; ++r) {
    const float inverse = 1.0f / softmax.sum[r];
    float* row = RowOf(a, rows.b, rows.first + r, y, a.heads * a.head_dim);
    for (int64_t i = 0; i < a.head_dim; ++i) row[i] = softmax.O[i * Block::kRows + r] * inverse;
    if (log_sum != nullptr)
      log_sum[rows.b * a.T * a.heads + rows.first + r] = softmax.most[r] + std::log(softmax.sum[r]);
  }
}

template <int V, class D>
void ForwardRows(D d, const Attention& a, int64_t b, int64_t first, bool cut_keys, bool large, float* y,
                 float* log_sum) {
  using Block = Rows<D, V>;
  const Block rows(a, b, first);
  HWY_ALIGN float Q[kMaxHeadDim * Block::kRows];
  Transpose(a, rows, a.q, a.q_stride, 1.0f / std::sqrt(float(a.head_dim)), Q);
  const int64_t keys = rows.last_key + 1 - rows.first_key;
  const int64_t parts = cut_keys ? std::clamp<int64_t>(keys / kPartKeys, 1, kMaxParts) : 1;
  if (parts == 1) {
    Softmax<Block> whole;
    Attend<V>(d, a, rows, Q, rows.first_key, rows.last_key + 1, whole);
    return WriteRows(a, rows, whole, y, log_sum);
  }
  Softmax<Block> part[kMaxParts];
  run_tasks(large, parts, [&](int64_t p) {
    Attend<V>(d, a, rows, Q, rows.first_key + keys * p / parts, rows.first_key + keys * (p + 1) / parts,
              part[p]);
  });
  for (int64_t p = 1; p < parts; ++p) Join<V>(d, a.head_dim, part[p], part[0]);
  WriteRows(a, rows, part[0], y, log_sum);
}

template <int V, class D>
void ForwardAll(D d, const Attention& a, float* y, float* log_sum) {
  constexpr int64_t kRows = V * kLanesOf<D>;
  const int64_t blocks = (a.T * a.heads + kRows - 1) / kRows;
  const bool large = products(a) >= kInlineProducts;
  const bool cut_keys = a.B * blocks < kEnoughTasks;
  // Later rows see more keys: first and last blocks alternate, so that a run of tasks is never all long ones.
  run_tasks(large && !cut_keys, a.B * blocks, [&](int64_t i) {
    const int64_t in_stream = i % blocks;
    const int64_t block = in_stream % 2 == 0 ? in_stream / 2 : blocks - 1 - in_stream / 2;
    ForwardRows<V>(d, a, i / blocks, block * kRows, cut_keys, large, y, log_sum);
  });
}

// Calls function(d, V) with vectors no wider than the rows need.
template <class Function>
void WithLanes(const Attention& a, const Function& function) {
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

void Forward(const Attention& a, float* y, float* log_sum) {
  WithLanes(a, [&](auto d, auto v) { ForwardAll<decltype(v)::value>(d, a, y, log_sum); });
}

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
    Transpose(a, rows, a.q, a.q_stride, scale, Q);
    Transpose(a, rows, dy, a.heads * a.head_dim, 1.0f, dY);
    std::fill_n(dQ, a.head_dim * Block::kRows, 0.0f);
    for (int64_t r = 0; r < Block::kRows; ++r) {
      log_sum[r] = inner[r] = 0;
      std::fill_n(q_rows + r * width, width, 0.0f);
      std::fill_n(dy_rows + r * width, width, 0.0f);
      if (r >= rows.count) continue;
      const int64_t row = rows.first + r;
      const float* y_row = RowOf(a, rows.b, row, y, a.heads * a.head_dim);
      const float* dy_row = RowOf(a, rows.b, row, dy, a.heads * a.head_dim);
      const float* q_row = RowOf(a, rows.b, row, a.q, a.q_stride);
      log_sum[r] = sums[rows.b * a.T * a.heads + row];
      for (int64_t i = 0; i < a.head_dim; ++i) {
        inner[r] += dy_row[i] * y_row[i];
        q_rows[r * width + i] = scale * q_row[i];
        dy_rows[r * width + i] = dy_row[i];
      }
    }
  }
};

// From scores S and dP (both [keys][rows]) to P and dS, in their places.
template <int V, class D>
void SoftmaxGradient(D d, const Rows<D, V>& rows, int64_t key, int64_t keys, bool masked,
                     const float* log_sum, const float* inner, float* S, float* dP) {
  for (int v = 0; v < V; ++v) {
    const int64_t lane = v * kLanesOf<D>;
    const auto sum = hn::Load(d, log_sum + lane), mean = hn::Load(d, inner + lane);
    for (int64_t k = 0; k < keys; ++k) {
      const int64_t at = k * V * kLanesOf<D> + lane;
      auto p = Exp(d, hn::Sub(hn::Load(d, S + at), sum));
      if (masked) p = hn::IfThenElseZero(Sees(d, rows, key + k, v), p);
      hn::Store(p, d, S + at);
      hn::Store(hn::Mul(p, hn::Sub(hn::Load(d, dP + at), mean)), d, dP + at);
    }
  }
}

// G[k][:] += Σ_r W[k][r]·Z[r][:] for K keys; rows of G and Z are `width` long, a multiple of 16.
template <int K, class D>
HWY_INLINE void KeysTile(D d, int64_t width, int64_t rows, int64_t w_stride, const float* W, const float* Z,
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

void Keys(int64_t width, int64_t keys, int64_t rows, int64_t w_stride, const float* W, const float* Z,
          float* G) {
  const hn::CappedTag<float, 16> d;
  int64_t k = 0;
  for (; k + 8 <= keys; k += 8) KeysTile<8>(d, width, rows, w_stride, W + k * w_stride, Z, G + k * width);
  for (; k < keys; ++k) KeysTile<1>(d, width, rows, w_stride, W + k * w_stride, Z, G + k * width);
}

// One block of rows: its dq, and its part of the chunk's dK and dV ([T][padded(head_dim)]).
template <int V, class D>
void BackwardBlock(D d, const Attention& a, int64_t b, int64_t first, const float* y, const float* log_sum,
                   const float* dy, float* dq, int64_t dq_stride, float* dK, float* dV) {
  using Block = Rows<D, V>;
  constexpr int64_t kRows = Block::kRows;
  const Block rows(a, b, first);
  BackwardRows<Block> own(a, rows, y, log_sum, dy);
  const int64_t width = padded(a.head_dim);
  HWY_ALIGN float S[kKeyBlock * kRows];
  HWY_ALIGN float dS[kKeyBlock * kRows];
  for (int64_t key = rows.first_key; key <= rows.last_key; key += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, rows.last_key + 1 - key);
    const int64_t at = b * a.cache_stride + key * a.head_dim;
    Scores<V>(d, a.head_dim, keys, a.keys + at, own.Q, S);
    Scores<V>(d, a.head_dim, keys, a.values + at, own.dY, dS);
    const bool masked = key < rows.all_from || key + keys - 1 > rows.all_to;
    SoftmaxGradient<V>(d, rows, key - rows.first_key, keys, masked, own.log_sum, own.inner, S, dS);
    Values<V>(d, a.head_dim, keys, a.keys + at, dS, own.dQ);
    const int64_t skip = std::clamp<int64_t>(a.start[b] - key, 0, keys);  // older rows are constants
    const int64_t to = (key + skip - a.start[b]) * width;
    Keys(width, keys - skip, rows.count, kRows, S + skip * kRows, own.dy_rows, dV + to);
    Keys(width, keys - skip, rows.count, kRows, dS + skip * kRows, own.q_rows, dK + to);
  }
  const float scale = 1.0f / std::sqrt(float(a.head_dim));
  for (int64_t r = 0; r < rows.count; ++r) {
    float* to = RowOf(a, b, first + r, dq, dq_stride);
    for (int64_t i = 0; i < a.head_dim; ++i) to[i] += scale * own.dQ[i * kRows + r];
  }
}

void Backward(const Attention& a, const float* y, const float* log_sum, const float* dy, float* dq,
              int64_t dq_stride, float* scratch) {
  const int64_t groups = backward_groups(a);
  const int64_t size = a.T * padded(a.head_dim);
  run_tasks(products(a) >= kInlineProducts, a.B * groups, [&](int64_t i) {
    float* dK = scratch + i * 2 * size;
    std::fill_n(dK, 2 * size, 0.0f);
    WithLanes(a, [&](auto d, auto v) {
      constexpr int64_t kRows = decltype(v)::value * kLanesOf<decltype(d)>;
      for (int64_t first = i % groups * kRows; first < a.T * a.heads; first += groups * kRows)
        BackwardBlock<decltype(v)::value>(d, a, i / groups, first, y, log_sum, dy, dq, dq_stride, dK,
                                          dK + size);
    });
  });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(Forward);
HWY_EXPORT(Backward);

void attention_forward(const Attention& a, float* y, float* log_sum) {
  BROOD_ASSERT(a.head_dim >= 1 && a.head_dim <= kMaxHeadDim && a.window >= 1);
  HWY_DYNAMIC_DISPATCH(Forward)(a, y, log_sum);
}

int64_t attention_backward_scratch(const Attention& a) {
  return a.B * backward_groups(a) * 2 * a.T * padded(a.head_dim);
}

void attention_backward(const Attention& a, const float* y, const float* log_sum, const float* dy, float* dq,
                        int64_t dq_stride, float* dkeys, float* dvalues, float* scratch) {
  BROOD_ASSERT(a.head_dim >= 1 && a.head_dim <= kMaxHeadDim && a.window >= 1);
  HWY_DYNAMIC_DISPATCH(Backward)(a, y, log_sum, dy, dq, dq_stride, scratch);
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
