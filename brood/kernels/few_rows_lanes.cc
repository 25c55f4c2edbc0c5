// Dot products of some ten to thirty rows of A with the rows of B, with the rows of A along the vector lanes:
// a number of B is spread over a vector and multiplied with the same column of as many rows of A. B is read
// as it lies, nothing is summed across lanes, and each sum runs in the order of k.
#include <algorithm>

#include "brood/kernels/few_rows.h"
#include "brood/kernels/matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/few_rows_lanes.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/four_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

#if HWY_TARGET == HWY_SCALAR

bool lanes_dot(int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t, bool, float*,
               int64_t) {
  return false;
}

#else

using F = hn::CappedTag<float, 16>;
using V = hn::Vec<F>;
constexpr int64_t kLanes = int64_t(hn::MaxLanes(F()));
constexpr bool kManyRegisters = kLanes == 16;

using Four = hn::CappedTag<float, 4>;

// Four vectors transposed in blocks of four by four: place 4b + j of each goes to four numbers at column(j,
// b).
constexpr int64_t column(int64_t j, int64_t b) { return j * kLanes + 4 * b; }
HWY_INLINE void transpose_four(V v0, V v1, V v2, V v3, float* columns) {
  const F d;
  TurnFour(d, v0, v1, v2, v3);
  hn::Store(v0, d, columns);
  hn::Store(v1, d, columns + kLanes);
  hn::Store(v2, d, columns + 2 * kLanes);
  hn::Store(v3, d, columns + 3 * kLanes);
}

// Columns k of `rows` rows of A, `width` rows with the zeros that fill the last vector: [K][width].
void into_lanes(int64_t rows, int64_t width, int64_t K, const float* A, int64_t lda, float* to) {
  const F d;
  const Four four;
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    const float* from = A + i * lda;
    int64_t k = 0;
    for (; k + kLanes <= K; k += kLanes) {
      HWY_ALIGN float columns[4 * kLanes];
      transpose_four(hn::LoadU(d, from + k), hn::LoadU(d, from + lda + k), hn::LoadU(d, from + 2 * lda + k),
                     hn::LoadU(d, from + 3 * lda + k), columns);
      for (int64_t b = 0; b < kLanes / 4; ++b)
        for (int64_t j = 0; j < 4; ++j)
          hn::Store(hn::Load(four, columns + column(j, b)), four, to + (k + 4 * b + j) * width + i);
    }
    for (; k < K; ++k)
      for (int64_t r = 0; r < 4; ++r) to[k * width + i + r] = from[r * lda + k];
  }
  for (; i < width; ++i)
    for (int64_t k = 0; k < K; ++k) to[k * width + i] = i < rows ? A[i * lda + k] : 0.0f;
}

// C[m][0..4) (+)= the sums of four rows of B.
template <int Groups>
HWY_INLINE void store_four(int64_t rows, const V (&sum)[4][Groups], bool accumulate, float* C, int64_t ldc) {
  const Four four;
  for (int64_t g = 0; g < Groups; ++g) {
    HWY_ALIGN float columns[4 * kLanes];
    transpose_four(sum[0][g], sum[1][g], sum[2][g], sum[3][g], columns);
    for (int64_t m = 0; m < std::min(kLanes, rows - g * kLanes); ++m) {
      float* c = C + (g * kLanes + m) * ldc;
      const auto found = hn::Load(four, columns + column(m % 4, m / 4));
      hn::StoreU(accumulate ? hn::Add(hn::LoadU(four, c), found) : found, four, c);
    }
  }
}

// R rows of B (one, or a multiple of four) with all lanes; the next R are prefetched meanwhile if `ahead`.
template <int Groups, int R>
HWY_INLINE void lanes_tile(int64_t rows, int64_t K, const float* lanes, const float* B, int64_t ldb,
                           bool ahead, bool accumulate, float* C, int64_t ldc) {
  const F d;
  constexpr int kQuads = R == 1 ? 1 : R / 4, kOf = R == 1 ? 1 : 4;
  V sum[kQuads][kOf][Groups];
  for (auto& quad : sum)
    for (auto& row : quad)
      for (V& s : row) s = hn::Zero(d);
  const float* quads[kQuads];
  for (int q = 0; q < kQuads; ++q) quads[q] = B + q * 4 * ldb;
  const auto step = [&](int64_t k) HWY_ATTR {
    V a[Groups];
    for (int g = 0; g < Groups; ++g) a[g] = hn::Load(d, lanes + (k * Groups + g) * kLanes);
    for (int q = 0; q < kQuads; ++q) {
      for (int r = 0; r < kOf; ++r) {
        const V b = hn::Set(d, quads[q][r * ldb + k]);
        for (int g = 0; g < Groups; ++g) sum[q][r][g] = hn::MulAdd(a[g], b, sum[q][r][g]);
      }
    }
  };
  int64_t k = 0;
  for (; k + 16 <= K; k += 16) {
    for (int r = 0; r < R && ahead; ++r) hwy::Prefetch(B + (R + r) * ldb + k);
    for (int64_t i = k; i < k + 16; ++i) step(i);
  }
  for (; k < K; ++k) step(k);

  if constexpr (R == 1) {
    for (int g = 0; g < Groups; ++g) {
      HWY_ALIGN float steps[kLanes];
      hn::Store(sum[0][0][g], d, steps);
      for (int64_t m = 0; m < std::min(kLanes, rows - g * kLanes); ++m) {
        float& c = C[(g * kLanes + m) * ldc];
        c = (accumulate ? c : 0.0f) + steps[m];
      }
    }
  } else {
    for (int q = 0; q < kQuads; ++q) store_four<Groups>(rows, sum[q], accumulate, C + q * 4, ldc);
  }
}

template <int Groups>
void lanes_rows(int64_t rows, int64_t N, int64_t K, const float* A, int64_t lda, const float* B, int64_t ldb,
                bool accumulate, float* C, int64_t ldc) {
  constexpr int R = (kManyRegisters ? 16 : 8) / Groups;
  HWY_ALIGN float lanes[kFewRowsInLanes * Groups * kLanes];
  into_lanes(rows, Groups * kLanes, K, A, lda, lanes);
  int64_t n = 0;
  for (; n + R <= N; n += R)
    lanes_tile<Groups, R>(rows, K, lanes, B + n * ldb, ldb, n + 2 * R <= N, accumulate, C + n, ldc);
  for (; n + 4 <= N; n += 4)
    lanes_tile<Groups, 4>(rows, K, lanes, B + n * ldb, ldb, false, accumulate, C + n, ldc);
  for (; n < N; ++n) lanes_tile<Groups, 1>(rows, K, lanes, B + n * ldb, ldb, false, accumulate, C + n, ldc);
}

// False where lanes are too few for this way to pay.
bool lanes_dot(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B, int64_t ldb,
               bool accumulate, float* C, int64_t ldc) {
  if (kLanes < 8 || (2 * M <= kLanes && K > kLanes)) return false;
  for (int64_t m = 0; m < M;) {
    const int64_t rows = std::min(2 * kLanes, M - m);
    const auto run = rows > kLanes ? lanes_rows<2> : lanes_rows<1>;
    run(rows, N, K, A + m * lda, lda, B, ldb, accumulate, C + m * ldc, ldc);
    m += rows;
  }
  return true;
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(lanes_dot);

bool few_rows_lanes_dot(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B,
                        int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  if (M <= kFewRows || K > kFewRowsInLanes) return false;
  return HWY_DYNAMIC_DISPATCH(lanes_dot)(M, N, K, A, lda, B, ldb, accumulate, C, ldc);
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
