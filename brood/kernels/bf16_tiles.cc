#include "brood/kernels/bf16_tiles.h"

#include <algorithm>
#include <cstring>

#include "brood/base/threads.h"
#include "brood/kernels/amx.h"
#include "brood/kernels/scratch.h"

namespace brood::kernels {
#if BROOD_BF16_TILES

namespace {

constexpr int64_t kTile = kSide * kDepth;  // bf16 numbers in a left or right tile
constexpr int64_t kOut = kSide * kSide;    // f32 numbers in an output tile

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One of the two operands as it is stored: along[rows or columns] by k.
struct Operand {
  const Bf16* data;
  int64_t ld;
  bool k_contiguous;  // else stored [k][along]
  const Bf16* at(int64_t along, int64_t k) const {
    return data + (k_contiguous ? along * ld + k : k * ld + along);
  }
};

BROOD_AVX512 inline __mmask32 first32(int64_t n) {
  return n >= 32 ? ~__mmask32(0) : n <= 0 ? 0 : (__mmask32(1) << n) - 1;
}
BROOD_AVX512 inline __mmask16 first16(int64_t n) {
  return n >= 16 ? __mmask16(0xffff) : n <= 0 ? __mmask16(0) : __mmask16((1u << n) - 1);
}

// Transposes a 16x16 matrix of 32-bit words held in 16 registers.
BROOD_AVX512 inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 8] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
  }
}

// 16 x 32 numbers with k contiguous: one register per row or column.
BROOD_AVX512 inline void load_lines(const Operand& x, int64_t along, int64_t alongs, int64_t k, int64_t ks,
                                    __m512i (&r)[16]) {
  const __mmask32 mask = first32(ks);
  for (int64_t i = 0; i < kSide; ++i)
    r[i] = i < alongs ? _mm512_maskz_loadu_epi16(mask, x.at(along + i, k)) : _mm512_setzero_si512();
}

// 32 x 16 numbers stored [k][along]: one register per pair of k, the two numbers of a row or column side by
// side.
BROOD_AVX512 inline void load_pairs(const Operand& x, int64_t along, int64_t alongs, int64_t k, int64_t ks,
                                    __m512i (&r)[16]) {
  const __mmask16 mask = first16(alongs);
  const auto line = [&](int64_t i) BROOD_AVX512 {
    return i < ks ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, x.at(along, k + i)))
                  : _mm512_setzero_si512();
  };
  for (int64_t i = 0; i < kSide; ++i)
    r[i] = _mm512_or_si512(line(2 * i), _mm512_slli_epi32(line(2 * i + 1), 16));
}

BROOD_AVX512 inline void store_tile(const __m512i (&r)[16], Bf16* tile) {
  for (int i = 0; i < 16; ++i) _mm512_store_si512(tile + i * kDepth, r[i]);
}

// One tile of either kind. Rows of k are words of a left tile, so the two kinds differ by a transposition.
BROOD_AVX512 void pack_tile(const Operand& x, bool right, int64_t along, int64_t alongs, int64_t k,
                            int64_t ks, Bf16* tile) {
  __m512i r[16];
  x.k_contiguous ? load_lines(x, along, alongs, k, ks, r) : load_pairs(x, along, alongs, k, ks, r);
  if (x.k_contiguous == right) transpose(r);
  store_tile(r, tile);
}

// Tiles of k one after the other: [k / 32][16][32].
void pack_strip(const Operand& x, bool right, int64_t along, int64_t alongs, int64_t k, int64_t ks,
                Bf16* tiles) {
  for (int64_t i = 0; i < ks; i += kDepth, tiles += kTile)
    pack_tile(x, right, along, std::min(kSide, alongs), k + i, std::min(kDepth, ks - i), tiles);
}

// Where the left tiles of one strip of 16 rows are: whole ones in steps of `step`, the last, partial one in
// `tail`.
struct Strip {
  const Bf16* tiles;
  int64_t step;    // numbers between tiles
  int64_t stride;  // bytes between rows of a tile
  const Bf16* tail;
};

const TileConfig kTileConfig;

// Of the tile registers 0-3 are sums, then come the right tiles, then the left ones.
template <int R, int C>
BROOD_AMX inline void amx_step(const Strip* left, int64_t k, bool tail, const Bf16* right,
                               int64_t right_step) {
  // The next tiles of weights read in place: 16 or more streams are beyond what the hardware follows.
  for (int r = 0; r < R && !tail; ++r) {
    const char* next = reinterpret_cast<const char*>(left[r].tiles + (k + 1) * left[r].step);
    for (int i = 0; i < 16; ++i) _mm_prefetch(next + i * left[r].stride, _MM_HINT_T0);
  }
  const auto tile = [&](int r) { return tail ? left[r].tail : left[r].tiles + k * left[r].step; };
  const auto stride = [&](int r) { return size_t(tail ? 64 : left[r].stride); };
  _tile_loadd(4, right, 64);
  BROOD_IF(C == 2, _tile_loadd(5, right + right_step, 64));
  _tile_loadd(6, tile(0), stride(0));
  _tile_dpbf16ps(0, 6, 4);
  BROOD_IF(C == 2, _tile_dpbf16ps(1, 6, 5));
  if constexpr (R >= 2) {
    _tile_loadd(7, tile(1), stride(1));
    _tile_dpbf16ps(2, 7, 4);
    BROOD_IF(C == 2, _tile_dpbf16ps(3, 7, 5));
  }
  if constexpr (R >= 3) {
    static_assert(C == 1);
    _tile_loadd(6, tile(2), stride(2));
    _tile_dpbf16ps(1, 6, 4);
  }
  if constexpr (R >= 4) {
    _tile_loadd(7, tile(3), stride(3));
    _tile_dpbf16ps(3, 7, 4);
  }
}

// R strips of left rows with C strips of right columns over `blocks` whole tiles and perhaps a tail. The
// outputs go to out, tile (r, c) at (r·C + c)·256.
template <int R, int C>
BROOD_AMX void amx_kernel(const Strip* left, const Bf16* right, int64_t right_step, int64_t blocks, bool tail,
                          float* out) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < blocks; ++k) amx_step<R, C>(left, k, false, right + k * kTile, right_step);
  if (tail) amx_step<R, C>(left, blocks, true, right + blocks * kTile, right_step);
  _tile_stored(0, out, 64);
  BROOD_IF(C == 2, _tile_stored(1, out + kOut, 64));
  BROOD_IF(R >= 2, _tile_stored(2, out + C * kOut, 64));
  BROOD_IF(R >= 2 && C == 2, _tile_stored(3, out + 3 * kOut, 64));
  BROOD_IF(R >= 3, _tile_stored(1, out + 2 * kOut, 64));
  BROOD_IF(R >= 4, _tile_stored(3, out + 3 * kOut, 64));
}

// The same by VDPBF16PS, eight rows at a time: 8·C accumulators stay in registers.
template <int R, int C>
BROOD_AVX512 void avx512_kernel(const Strip* left, const Bf16* right, int64_t right_step, int64_t blocks,
                                bool tail, float* out) {
  for (int half = 0; half < 2 * R; ++half) {
    const Strip& strip = left[half / 2];
    const int64_t first_row = half % 2 * 8;
    __m512 sum[8][C];
    for (auto& row : sum)
      for (auto& s : row) s = _mm512_setzero_ps();
    for (int64_t k = 0; k < blocks + tail; ++k) {
      const bool last = k == blocks;
      const int64_t stride = last ? kDepth : strip.stride / 2;
      const Bf16* rows = (last ? strip.tail : strip.tiles + k * strip.step) + first_row * stride;
      for (int64_t pair = 0; pair < 16; ++pair) {
        const Bf16* columns = right + k * kTile + pair * kDepth;
        __m512bh w[C];
        for (int c = 0; c < C; ++c) w[c] = __m512bh(_mm512_load_si512(columns + c * right_step));
        for (int i = 0; i < 8; ++i) {
          int32_t word;
          std::memcpy(&word, rows + i * stride + 2 * pair, sizeof(word));
          const __m512bh x = __m512bh(_mm512_set1_epi32(word));
          for (int c = 0; c < C; ++c) sum[i][c] = _mm512_dpbf16_ps(sum[i][c], x, w[c]);
        }
      }
    }
    for (int i = 0; i < 8; ++i)
      for (int c = 0; c < C; ++c)
        _mm512_store_ps(out + (half / 2 * C + c) * kOut + (first_row + i) * kSide, sum[i][c]);
  }
}

using Kernel = void (*)(const Strip* left, const Bf16* right, int64_t right_step, int64_t blocks, bool tail,
                        float* out);

Kernel kernel_for(Bf16Kernel which, int64_t r, int64_t c) {
  const bool amx = which == Bf16Kernel::kAmx;
  if (c == 2)
    return r == 2 ? (amx ? amx_kernel<2, 2> : avx512_kernel<2, 2>)
                  : (amx ? amx_kernel<1, 2> : avx512_kernel<1, 2>);
  if (r == 4) return amx ? amx_kernel<4, 1> : avx512_kernel<4, 1>;
  if (r == 3) return amx ? amx_kernel<3, 1> : avx512_kernel<3, 1>;
  if (r == 2) return amx ? amx_kernel<2, 1> : avx512_kernel<2, 1>;
  return amx ? amx_kernel<1, 1> : avx512_kernel<1, 1>;
}

// C[row][column] (+)= the valid part of a tile; rows and columns change places when C is the other way round.
BROOD_AVX512 void write_tile(const float* tile, int64_t rows, int64_t columns, bool transposed,
                             bool accumulate, float* C, int64_t ldc) {
  __m512i r[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_load_si512(tile + i * kSide);
  if (transposed) {
    transpose(r);
    std::swap(rows, columns);
  }
  const __mmask16 mask = first16(columns);
  for (int64_t i = 0; i < kSide; ++i) {
    if (i >= rows) break;
    __m512 v = _mm512_castsi512_ps(r[i]);
    if (accumulate) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, C + i * ldc));
    _mm512_mask_storeu_ps(C + i * ldc, mask, v);
  }
}

// A product after the operands have got their sides: out[rows, columns] = left · right.
struct Sides {
  Bf16Kernel kernel;
  Operand left, right;
  int64_t rows, columns, K;
  bool transposed;  // out is Cᵀ
  bool accumulate;
  float* C;
  int64_t ldc;
  float* c_at(int64_t row, int64_t column) const {
    return C + (transposed ? column * ldc + row : row * ldc + column);
  }
};

// How much of the right operand is packed at a time: 2 MB, which the tasks then share from cache.
constexpr int64_t kPackedDepth = 1024, kPackedColumns = 1024;

// A task computes this many rows of the left with up to kTaskColumns of the right.
constexpr int64_t kTaskRows = 64, kTaskColumns = 256;

// Fork and join cost about as much as 1 MFLOP here; several of them are the least that is worth sharing.
constexpr int64_t kThreadedFlops = 12'000'000, kThreadedBytes = 256 << 10;

// Strips of `count` x 16 rows from `row` on; left tiles read in place where k is contiguous and 16 rows
// exist.
BROOD_AVX512 void find_strips(const Sides& p, int64_t row, int64_t row_end, int64_t k, int64_t ks,
                              int64_t count, Bf16* room, Strip* strips) {
  const int64_t blocks = ks / kDepth, tail = ks % kDepth, room_per_strip = (blocks + 1) * kTile;
  for (int64_t s = 0; s < count; ++s, row += kSide, room += room_per_strip) {
    const int64_t rows = std::min(kSide, row_end - row);
    if (p.left.k_contiguous && rows == kSide) {
      if (tail > 0) pack_tile(p.left, false, row, rows, k + blocks * kDepth, tail, room);
      strips[s] = {p.left.at(row, k), kDepth, p.left.ld * int64_t(sizeof(Bf16)), room};
    } else {
      pack_strip(p.left, false, row, rows, k, ks, room);
      strips[s] = {room, kTile, kDepth * int64_t(sizeof(Bf16)), room + blocks * kTile};
    }
  }
}

// One task: rows [row, row_end) with the columns [column, column_end) of the packed part that begins at
// first_column.
BROOD_AVX512 void multiply(const Sides& p, const Bf16* packed, int64_t row, int64_t row_end, int64_t column,
                           int64_t column_end, int64_t k, int64_t ks, int64_t packed_column) {
  thread_local Scratch scratch;
  const int64_t blocks = ks / kDepth, strip_size = ceil_div(ks, kDepth) * kTile;
  Bf16* room = scratch.get<Bf16>(4 * (blocks + 1) * kTile);
  alignas(64) float out[4 * kOut];
  const int64_t height = column_end - column <= kSide ? 4 : 2;  // strips of rows at a time
  for (; row < row_end; row += height * kSide) {
    Strip strips[4];
    const int64_t count = std::min(height, ceil_div(row_end - row, kSide));
    find_strips(p, row, row_end, k, ks, count, room, strips);
    for (int64_t n = column; n < column_end;) {
      const int64_t wide = height == 2 && n + kSide < column_end ? 2 : 1;
      const Bf16* right = packed + (n - packed_column) / kSide * strip_size;
      kernel_for(p.kernel, count, wide)(strips, right, strip_size, blocks, ks % kDepth != 0, out);
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t c = 0; c < wide; ++c) {
          const int64_t rows = row_end - (row + r * kSide), columns = column_end - (n + c * kSide);
          write_tile(out + (r * wide + c) * kOut, std::min(kSide, rows), std::min(kSide, columns),
                     p.transposed, p.accumulate || k > 0, p.c_at(row + r * kSide, n + c * kSide), p.ldc);
        }
      }
      n += wide * kSide;
    }
  }
}

BROOD_AMX void multiply_amx(const Sides& p, const Bf16* packed, int64_t row, int64_t row_end, int64_t column,
                            int64_t column_end, int64_t k, int64_t ks, int64_t packed_column) {
  const AmxOn on(kTileConfig);
  multiply(p, packed, row, row_end, column, column_end, k, ks, packed_column);
}

// Runs task(i) for i in [0, n), by the pool when that pays.
template <class Task>
void each(bool threaded, int64_t n, Task&& task) {
  if (threaded) return parallel(n, task);
  for (int64_t i = 0; i < n; ++i) task(i);
}

// One packed part of the right operand: columns [n, n + columns), depth [k, k + ks).
void multiply_part(const Sides& p, int64_t n, int64_t columns, int64_t k, int64_t ks, Bf16* packed) {
  const int64_t strips = ceil_div(columns, kSide), strip_size = ceil_div(ks, kDepth) * kTile;
  each(columns * ks >= (128 << 10), strips, [&](int64_t s) {
    pack_strip(p.right, true, n + s * kSide, columns - s * kSide, k, ks, packed + s * strip_size);
  });
  const int64_t down = ceil_div(p.rows, kTaskRows), across = ceil_div(columns, kTaskColumns);
  const bool threaded =
      2 * p.rows * columns * ks >= kThreadedFlops || p.rows * ks * int64_t(sizeof(Bf16)) >= kThreadedBytes;
  each(threaded, down * across, [&](int64_t task) {
    const int64_t row = task / across * kTaskRows, column = n + task % across * kTaskColumns;
    const int64_t row_end = std::min(p.rows, row + kTaskRows);
    const int64_t column_end = std::min(n + columns, column + kTaskColumns);
    const auto run = p.kernel == Bf16Kernel::kAmx ? multiply_amx : multiply;
    run(p, packed, row, row_end, column, column_end, k, ks, n);
  });
}

}  // namespace

void bf16_product(Bf16Kernel kernel, Order a_order, Order b_order, int64_t M, int64_t N, int64_t K,
                  const Bf16* A, int64_t lda, const Bf16* B, int64_t ldb, bool accumulate, float* C,
                  int64_t ldc) {
  Sides p{kernel,
          {A, lda, a_order == Order::kPlain},
          {B, ldb, b_order == Order::kTransposed},
          M,
          N,
          K,
          false,
          accumulate,
          C,
          ldc};
  if (p.left.k_contiguous &&
      p.right.k_contiguous) {  // y = x Wᵀ: the weights, rows of k as well, go to the left
    std::swap(p.left, p.right);
    std::swap(p.rows, p.columns);
    p.transposed = true;
  }
  thread_local Scratch scratch;
  const int64_t strips = ceil_div(std::min(p.columns, kPackedColumns), kSide);
  Bf16* packed = scratch.get<Bf16>(strips * ceil_div(std::min(K, kPackedDepth), kDepth) * kTile);
  for (int64_t n = 0; n < p.columns; n += kPackedColumns)
    for (int64_t k = 0; k < K; k += kPackedDepth)
      multiply_part(p, n, std::min(kPackedColumns, p.columns - n), k, std::min(kPackedDepth, K - k), packed);
}

#else

void bf16_product(Bf16Kernel, Order, Order, int64_t, int64_t, int64_t, const Bf16*, int64_t, const Bf16*,
                  int64_t, bool, float*, int64_t) {
  BROOD_ASSERT(false);
}

#endif  // BROOD_BF16_TILES

}  // namespace brood::kernels
