// The unit is an output tile of kRows rows by two vectors of columns that stays in registers while k runs:
//
//   out[r][c] += x(r, k) · packed[k][c]
//
// x is read in place, one number at a time, broadcast to all lanes; the other operand is packed into panels
// of two vectors, k after k. For y = x Wᵀ the small x is packed and the weights are read in place, once,
// which gives yᵀ tile by tile; so W is never copied. In every other order the second operand is packed.
#include "brood/kernels/tiles.h"

#include <algorithm>

#include "brood/kernels/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/tiles.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/four_vectors-inl.h"

#ifndef BROOD_TILES_SIDES
#define BROOD_TILES_SIDES
namespace brood::kernels {

// A product after the operands have got their sides: out[rows, columns].
struct TileSides {
  const float* x;  // x(row, k) at x[row·x_row + k·x_k]
  int64_t x_row, x_k;
  const float* panel;  // (k, column) at panel[k·panel_k + column·panel_column], one of the two steps is 1
  int64_t panel_k, panel_column;
  int64_t rows, columns, K;
  float* out;  // (row, column) at out[row·out_row + column·out_column], one of the two steps is 1
  int64_t out_row, out_column;
  bool accumulate;
};

}  // namespace brood::kernels
#endif  // BROOD_TILES_SIDES

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;

constexpr int64_t kLanes = int64_t(hn::MaxLanes(F()));
// With two vectors of columns: 16 sums where there are 32 registers, 12 where there are 16.
constexpr int kRows = HWY_TARGET == HWY_SCALAR ? 4 : kLanes == 8 ? 6 : 8;
constexpr int64_t kPanelFloats = 8192;  // 32 KB: a packed panel stays in L1

HWY_INLINE int64_t panel_depth(int64_t width) { return std::max<int64_t>(64, kPanelFloats / width); }

HWY_NOINLINE void transpose(int64_t rows, int64_t columns, const float* from, int64_t from_step, float* to,
                            int64_t to_step) {
  TurnBlock<4>(rows, columns, from, from_step, to, to_step);
}

// Columns [column, column + columns) of k in [k, k + depth), as [depth][width] with zeros beyond the columns.
HWY_INLINE void pack_panel(const TileSides& p, int64_t column, int64_t columns, int64_t width, int64_t k,
                           int64_t depth, float* packed) {
  const float* from = p.panel + k * p.panel_k + column * p.panel_column;
  if (columns < width)
    for (int64_t i = 0; i < depth; ++i)
      std::fill(packed + i * width + columns, packed + (i + 1) * width, 0.0f);
  if (p.panel_column == 1) {
    for (int64_t i = 0; i < depth; ++i) std::copy_n(from + i * p.panel_k, columns, packed + i * width);
  } else {
    transpose(depth, columns, from, p.panel_column, packed, width);
  }
}

// The sums of R rows with a panel of W vectors over `depth` steps of k, to tile[R][W·lanes]. With one vector
// the even and the odd steps have their own sums, or too few multiply-adds would be in flight.
template <int R, int W>
HWY_INLINE void tile_sums(const float* x, int64_t x_row, int64_t x_k, const float* packed, int64_t depth,
                          float* tile) {
  constexpr int kWays = W == 1 && HWY_TARGET != HWY_SCALAR ? 2 : 1;
  const F d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  V sum[kWays][R][W];
  for (int way = 0; way < kWays; ++way)
    for (int r = 0; r < R; ++r)
      for (int w = 0; w < W; ++w) sum[way][r][w] = hn::Zero(d);
  const auto step = [&](int64_t k, int way) HWY_ATTR {
    V b[W];
    for (int w = 0; w < W; ++w) b[w] = hn::Load(d, packed + (k * W + w) * lanes);
    for (int r = 0; r < R; ++r) {
      const V a = hn::Set(d, x[r * x_row + k * x_k]);
      for (int w = 0; w < W; ++w) sum[way][r][w] = hn::MulAdd(a, b[w], sum[way][r][w]);
    }
  };
  int64_t k = 0;
  for (; k + kWays <= depth; k += kWays)
    for (int way = 0; way < kWays; ++way) step(k + way, way);
  for (; k < depth; ++k) step(k, 0);
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < W; ++w)
      hn::Store(kWays == 2 ? hn::Add(sum[0][r][w], sum[kWays - 1][r][w]) : sum[0][r][w], d,
                tile + (r * W + w) * lanes);
}

// out (+)= the rows x columns part of tile[kRows][width].
HWY_INLINE void write_tile(const float* tile, int64_t width, int64_t rows, int64_t columns, bool add,
                           float* out, int64_t out_row, int64_t out_column) {
  HWY_ALIGN float turned[2 * kLanes * kRows];
  if (out_column != 1) {  // the tile of the transposed C
    transpose(columns, rows, tile, width, turned, kRows);
    tile = turned;
    width = kRows;
    std::swap(rows, columns);
    std::swap(out_row, out_column);
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* to = out + r * out_row;
    const float* from = tile + r * width;
    if (add) {
      for (int64_t c = 0; c < columns; ++c) to[c] += from[c];
    } else {
      for (int64_t c = 0; c < columns; ++c) to[c] = from[c];
    }
  }
}

template <int W>
HWY_INLINE void multiply_panel(const TileSides& p, int64_t column, int64_t columns, float* packed) {
  const int64_t width = W * kLanes, depth = panel_depth(width);
  HWY_ALIGN float tile[kRows * W * kLanes];
  for (int64_t k = 0; k < p.K; k += depth) {
    const int64_t steps = std::min(depth, p.K - k);
    pack_panel(p, column, columns, width, k, steps, packed);
    const auto write = [&](int64_t row, int64_t rows) HWY_ATTR {
      write_tile(tile, width, rows, columns, p.accumulate || k > 0,
                 p.out + row * p.out_row + column * p.out_column, p.out_row, p.out_column);
    };
    int64_t row = 0;
    for (; row + kRows <= p.rows; row += kRows) {
      tile_sums<kRows, W>(p.x + row * p.x_row + k * p.x_k, p.x_row, p.x_k, packed, steps, tile);
      write(row, kRows);
    }
    for (; row < p.rows; ++row) {
      tile_sums<1, W>(p.x + row * p.x_row + k * p.x_k, p.x_row, p.x_k, packed, steps, tile);
      write(row, 1);
    }
  }
}

void multiply_tiles(const TileSides& p, float* packed) {
  int64_t column = 0;
  for (; column + kLanes < p.columns; column += 2 * kLanes)
    multiply_panel<2>(p, column, std::min(2 * kLanes, p.columns - column), packed);
  if (column < p.columns) multiply_panel<1>(p, column, p.columns - column, packed);
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(multiply_tiles);

void tiles_product(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const float* A, int64_t lda,
                   const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  const bool a_plain = a_order == Order::kPlain, b_plain = b_order == Order::kPlain;
  const int64_t a_row = a_plain ? lda : 1, a_k = a_plain ? 1 : lda;
  const int64_t b_k = b_plain ? ldb : 1, b_column = b_plain ? 1 : ldb;
  const TileSides p = a_plain && !b_plain
                          ? TileSides{B, b_column, b_k, A, a_k, a_row, N, M, K, C, 1, ldc, accumulate}
                          : TileSides{A, a_row, a_k, B, b_k, b_column, M, N, K, C, ldc, 1, accumulate};
  thread_local Scratch scratch;
  constexpr int64_t kPackedFloats = 16384;  // at least a panel of any target
  HWY_DYNAMIC_DISPATCH(multiply_tiles)(p, scratch.get<float>(kPackedFloats));
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
