// A row times weights in AMX tiles. The row is the right operand, one column wide, and needs no packing: two
// consecutive numbers of k are one 32-bit word of it, as they lie. 15 of the 16 columns that a tile product
// could have are not there, but it reads weights as fast as the L2 cache gives them, needs no sums across
// lanes, and leaves y as it is wanted.
#include "brood/kernels/amx.h"
#include "brood/kernels/bf16_tiles.h"
#include "brood/kernels/few_rows.h"

namespace brood::kernels {
#if BROOD_BF16_TILES

namespace {

constexpr int64_t kWord = 4;  // bytes of a tile's only column

// Tiles 0-3 are sums, 4 and 5 weights, 6 the row.
const TileConfig kRowConfig = {.row_bytes = {kWord, kWord, kWord, kWord, 64, 64, kWord, kWord}};

// S strips of 16 weights' rows. Nothing is prefetched by hand: these weights lie in a cache, and each such
// instruction takes the place of a load.
template <int S>
BROOD_AMX inline void strips(int64_t K, const Bf16* x, const Bf16* W, int64_t ldw, bool accumulate,
                             float* y) {
  const int64_t strip = kSide * ldw;
  const size_t stride = size_t(ldw) * sizeof(Bf16);
  if (accumulate) {
    _tile_loadd(0, y, kWord);
    BROOD_IF(S == 4, _tile_loadd(1, y + kSide, kWord));
    BROOD_IF(S == 4, _tile_loadd(2, y + 2 * kSide, kWord));
    BROOD_IF(S == 4, _tile_loadd(3, y + 3 * kSide, kWord));
  } else {
    _tile_zero(0);
    BROOD_IF(S == 4, _tile_zero(1));
    BROOD_IF(S == 4, _tile_zero(2));
    BROOD_IF(S == 4, _tile_zero(3));
  }
  for (int64_t k = 0; k < K; k += kDepth) {
    _tile_loadd(6, x + k, kWord);
    _tile_loadd(4, W + k, stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (S == 4) {
      _tile_loadd(5, W + strip + k, stride);
      _tile_dpbf16ps(1, 5, 6);
      _tile_loadd(4, W + 2 * strip + k, stride);
      _tile_dpbf16ps(2, 4, 6);
      _tile_loadd(5, W + 3 * strip + k, stride);
      _tile_dpbf16ps(3, 5, 6);
    }
  }
  _tile_stored(0, y, kWord);
  BROOD_IF(S == 4, _tile_stored(1, y + kSide, kWord));
  BROOD_IF(S == 4, _tile_stored(2, y + 2 * kSide, kWord));
  BROOD_IF(S == 4, _tile_stored(3, y + 3 * kSide, kWord));
}

// The whole strips; returns how many rows they were.
BROOD_AMX int64_t whole_strips(int64_t N, int64_t K, const Bf16* x, const Bf16* W, int64_t ldw,
                               bool accumulate, float* y) {
  const AmxOn on(kRowConfig);
  int64_t n = 0;
  for (; n + 4 * kSide <= N; n += 4 * kSide) strips<4>(K, x, W + n * ldw, ldw, accumulate, y + n);
  for (; n + kSide <= N; n += kSide) strips<1>(K, x, W + n * ldw, ldw, accumulate, y + n);
  return n;
}

}  // namespace

void bf16_row(int64_t N, int64_t K, const Bf16* x, const Bf16* W, int64_t ldw, bool accumulate, float* y) {
  const int64_t n = whole_strips(N, K, x, W, ldw, accumulate, y);
  if (n < N) few_rows_dot(1, N - n, K, x, K, W + n * ldw, ldw, accumulate, y + n, N);
}

#else

void bf16_row(int64_t, int64_t, const Bf16*, const Bf16*, int64_t, bool, float*) { BROOD_ASSERT(false); }

#endif  // BROOD_BF16_TILES
}  // namespace brood::kernels
