// What the scalar scan's forward and backward share. Include after hwy/foreach_target.h.
//
// Every product of a chunk is made of one tile: kTileRows rows by one or two vectors of columns, held in
// registers while the inner dimension passes. The left operand is read one number at a time and broadcast;
// the right one lies in rows. All operands lie in buffers of whole tiles, with zeros beyond their sizes.
#if defined(BROOD_KERNELS_SCALAR_SCAN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BROOD_KERNELS_SCALAR_SCAN_INL_H_
#undef BROOD_KERNELS_SCALAR_SCAN_INL_H_
#else
#define BROOD_KERNELS_SCALAR_SCAN_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "brood/kernels/four_vectors-inl.h"
#include "brood/kernels/scalar_scan.h"
#include "brood/kernels/scalar_scan_memory.h"
#include "brood/kernels/vector_math-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

constexpr float kLeastLogDecay = -200.0f;

using F = hn::CappedTag<float, kPadding>;
using V = hn::Vec<F>;
constexpr int64_t kLanes = int64_t(hn::MaxLanes(F()));
// With two vectors of columns: 16 sums where there are 32 registers, 8 where there are 16.
constexpr int kTileRows = kLanes == 16 || HWY_TARGET == HWY_NEON ? 8 : 4;

// Element (row, k) of a left operand is data[row·row_step + k·k_step]; one of the steps is 1.
struct Left {
  const float* data;
  int64_t row_step, k_step;
};
// Rows of a right operand, 64-byte aligned.
struct Right {
  const float* data;
  int64_t step;
};

// Which k of its second product a tile takes: those up to its rows, or from them on to the last row.
enum class Triangle : uint8_t { kNone, kUpToRow, kFromRow };

// out = keep·old + scale[row]·(a b) + a2 b2, rows x columns, all whole tiles.
struct Product {
  int64_t rows, columns;
  Left a;
  Right b;
  int64_t depth;
  float* out;
  int64_t out_step;
  const float* scale = nullptr;  // null: 1
  float keep = 0;
  const float* old = nullptr;  // laid out as out; not read when keep is 0
  Triangle triangle = Triangle::kNone;
  Left a2 = {};
  Right b2 = {};
};

template <int W>
HWY_INLINE void add_products(const Left& a, const Right& b, int64_t row, int64_t column, int64_t from,
                             int64_t to, V (&sum)[kTileRows][W]) {
  const F d;
  const float* left = a.data + row * a.row_step + from * a.k_step;
  const float* right = b.data + from * b.step + column;
  // Two bases with small multiples of the step: addresses that the processor forms by itself.
  const float* lower = left + kTileRows / 2 * a.row_step;
  const int64_t step = a.row_step;
  // In registers: through the reference every sum would be stored at every step.
  V near[kTileRows][W];
  for (int r = 0; r < kTileRows; ++r)
    for (int w = 0; w < W; ++w) near[r][w] = sum[r][w];
  for (int64_t k = from; k < to; ++k, left += a.k_step, lower += a.k_step, right += b.step) {
    V x[W];
    for (int w = 0; w < W; ++w) x[w] = hn::Load(d, right + w * kLanes);
    for (int r = 0; r < kTileRows; ++r) {
      const float* at = r < kTileRows / 2 ? left + r * step : lower + (r - kTileRows / 2) * step;
      const V factor = hn::Set(d, *at);
      for (int w = 0; w < W; ++w) near[r][w] = hn::MulAdd(factor, x[w], near[r][w]);
    }
  }
  for (int r = 0; r < kTileRows; ++r)
    for (int w = 0; w < W; ++w) sum[r][w] = near[r][w];
}

template <int W>
HWY_INLINE void multiply_tile(const Product& p, int64_t row, int64_t column) {
  const F d;
  V sum[kTileRows][W];
  for (int r = 0; r < kTileRows; ++r)
    for (int w = 0; w < W; ++w) sum[r][w] = hn::Zero(d);
  add_products<W>(p.a, p.b, row, column, 0, p.depth, sum);
  if (p.scale != nullptr) {
    for (int r = 0; r < kTileRows; ++r) {
      const V factor = hn::Set(d, p.scale[row + r]);
      for (int w = 0; w < W; ++w) sum[r][w] = hn::Mul(factor, sum[r][w]);
    }
  }
  if (p.triangle == Triangle::kUpToRow)
    add_products<W>(p.a2, p.b2, row, column, 0, row + kTileRows, sum);
  else if (p.triangle == Triangle::kFromRow)
    add_products<W>(p.a2, p.b2, row, column, row, p.rows, sum);
  const int64_t at = row * p.out_step + column;
  if (p.keep != 0) {
    const V keep = hn::Set(d, p.keep);
    for (int r = 0; r < kTileRows; ++r)
      for (int w = 0; w < W; ++w)
        sum[r][w] = hn::MulAdd(keep, hn::Load(d, p.old + at + r * p.out_step + w * kLanes), sum[r][w]);
  }
  for (int r = 0; r < kTileRows; ++r)
    for (int w = 0; w < W; ++w) hn::Store(sum[r][w], d, p.out + at + r * p.out_step + w * kLanes);
}

HWY_NOINLINE void multiply(const Product& p) {
  int64_t column = 0;
  for (; column + 2 * kLanes <= p.columns; column += 2 * kLanes)
    for (int64_t row = 0; row < p.rows; row += kTileRows) multiply_tile<2>(p, row, column);
  if (column < p.columns)
    for (int64_t row = 0; row < p.rows; row += kTileRows) multiply_tile<1>(p, row, column);
}

HWY_NOINLINE void turn(int64_t rows, int64_t columns, const float* from, int64_t from_step, float* to,
                       int64_t to_step) {
  TurnBlock<4>(rows, columns, from, from_step, to, to_step);
}

// Calls function(d, i) for the vectors that cover [0, n): whole ones, then single numbers.
template <class Function>
HWY_INLINE void over_row(int64_t n, const Function& function) {
  const F d;
  const hn::CappedTag<float, 1> one;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) function(d, i);
  for (; i < n; ++i) function(one, i);
}

// rows x columns numbers into a buffer of whole tiles, with zeros around them. ahead: how far behind these
// rows those lie that will be wanted next, 0 for none; rows lie too far apart for the processor to guess.
HWY_INLINE void pack(int64_t rows, int64_t columns, const float* from, int64_t from_step, int64_t ahead,
                     int64_t to_rows, int64_t to_columns, float* to) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = from + r * from_step;
    over_row(columns, [&](auto d, int64_t i) HWY_ATTR {
      if (ahead != 0) hwy::Prefetch(row + ahead + i);
      hn::StoreU(hn::LoadU(d, row + i), d, to + r * to_columns + i);
    });
    std::fill(to + r * to_columns + columns, to + (r + 1) * to_columns, 0.0f);
  }
  std::fill(to + rows * to_columns, to + to_rows * to_columns, 0.0f);
}

// The other way.
HWY_INLINE void unpack(int64_t rows, int64_t columns, const float* from, int64_t from_columns, int64_t ahead,
                       float* to, int64_t to_step) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = to + r * to_step;
    over_row(columns, [&](auto d, int64_t i) HWY_ATTR {
      if (ahead != 0) hwy::Prefetch(row + ahead + i);
      hn::StoreU(hn::LoadU(d, from + r * from_columns + i), d, row + i);
    });
  }
}

// Fills the chunk c of group g. turned: N·Q floats to work in.
void share_group_chunk(const ScalarScan& s, const ScalarScanSizes& z, int64_t b, int64_t g, int64_t c,
                       float* memory, float* turned) {
  const ScalarScanGroupChunk to(s, z, memory, b, g, c);
  const int64_t steps = steps_of_chunk(s, c), row = b * s.T + c * s.chunk;
  pack(steps, s.N, s.q + row * s.q_stride + g * s.N, s.q_stride, 0, z.Q, z.N, to.q);
  pack(steps, s.N, s.k + row * s.k_stride + g * s.N, s.k_stride, 0, z.Q, z.N, to.k);
  turn(z.N, z.Q, to.k, z.N, turned, z.Q);
  multiply({.rows = z.Q,
            .columns = z.Q,
            .a = {to.q, z.N, 1},
            .b = {turned, z.Q},
            .depth = s.N,
            .out = to.products,
            .out_step = z.Q});
}

HWY_INLINE void scale_row(int64_t n, float factor, const float* from, float* to) {
  const F d;
  for (int64_t i = 0; i < n; i += kLanes)
    hn::Store(hn::Mul(hn::Set(d, factor), hn::Load(d, from + i)), d, to + i);
}

// The decays of a head's chunk; s_i is the sum of the logarithms up to step i. Rows beyond the steps go on
// with the last sum and weight 0.
struct ChunkDecay {
  HWY_ALIGN float sum[kScalarScanMaxChunk];  // s_i = sum + rest: what one float cannot hold decides
  HWY_ALIGN float rest[kScalarScanMaxChunk];
  HWY_ALIGN float from_start[kScalarScanMaxChunk];  // e^{s_i}
  HWY_ALIGN float to_end[kScalarScanMaxChunk];      // e^{s_Q − s_i}
  HWY_ALIGN float weight[kScalarScanMaxChunk];
  HWY_ALIGN float skip[kScalarScanMaxChunk];
  float whole;  // e^{s_Q}

  ChunkDecay(const ScalarScan& s, int64_t Q, int64_t row, int64_t steps, int64_t h) {
    double total = 0;
    for (int64_t i = 0; i < Q; ++i) {
      const bool real = i < steps;
      if (real) total += double(std::max(s.log_decay[(row + i) * s.log_decay_stride + h], kLeastLogDecay));
      sum[i] = float(total);
      rest[i] = float(total - double(sum[i]));
      weight[i] = real ? of_step(s.weight, s.weight_stride, row + i, h, 1) : 0;
      skip[i] = real ? of_step(s.skip, s.skip_stride, row + i, h, 0) : 0;
    }
    const F d;
    const auto end = hn::Set(d, sum[Q - 1]), end_rest = hn::Set(d, rest[Q - 1]);
    for (int64_t i = 0; i < Q; i += kLanes) {
      const auto at = hn::Load(d, sum + i), at_rest = hn::Load(d, rest + i);
      const V e = Exp(d, at);
      hn::Store(hn::MulAdd(e, at_rest, e), d, from_start + i);  // e^rest is 1 + rest to the last bit
      hn::Store(Exp(d, hn::Add(hn::Sub(end, at), hn::Sub(end_rest, at_rest))), d, to_end + i);
    }
    whole = from_start[Q - 1];
  }

  // e^{s_i − s_j} for the lanes j from `first` that are not after i, else 0.
  HWY_INLINE V row(int64_t i, int64_t first) const {
    const F d;
    const hn::RebindToSigned<F> di;
    const auto past = hn::RebindMask(d, hn::Lt(hn::Iota(di, int32_t(first)), hn::Set(di, int32_t(i + 1))));
    const V log = hn::Add(hn::Sub(hn::Set(d, sum[i]), hn::Load(d, sum + first)),
                          hn::Sub(hn::Set(d, rest[i]), hn::Load(d, rest + first)));
    return hn::IfThenElseZero(past, Exp(d, hn::IfThenElseZero(past, log)));
  }

  // weighted_j = e^{s_Q − s_j} w_j v_j, rows of P.
  void weigh_for_end(const ScalarScanSizes& z, const float* v, float* weighted) const {
    for (int64_t j = 0; j < z.Q; ++j) scale_row(z.P, to_end[j] * weight[j], v + j * z.P, weighted + j * z.P);
  }

  // S' = e^{s_Q} S + Σ_j k_j weighted_jᵀ, [N][P]. from may be to.
  void advance_state(const ScalarScanSizes& z, const ScalarScanGroupChunk& group, const float* weighted,
                     int64_t steps, const float* from, float* to) const {
    multiply({.rows = z.N,
              .columns = z.P,
              .a = {group.k, 1, z.N},
              .b = {weighted, z.P},
              .depth = steps,
              .out = to,
              .out_step = z.P,
              .keep = whole,
              .old = from});
  }
};

// Columns of row i of a triangle that a tile may read: up to the last of the tile's rows.
HWY_INLINE int64_t triangle_columns(int64_t i) { return (i / kTileRows + 1) * kTileRows; }

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BROOD_KERNELS_SCALAR_SCAN_INL_H_
