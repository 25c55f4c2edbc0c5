#include "brood/kernels/few_rows.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/few_rows.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/four_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;
using U32 = hn::RebindToUnsigned<F>;

HWY_INLINE int64_t lanes() { return int64_t(hn::Lanes(F())); }

// The first n (< lanes) of a vector; the rest is zero, and memory beyond them is not touched.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_first(D d, const T* p, int64_t n) {
#if HWY_MEM_OPS_MIGHT_FAULT || HWY_TARGET == HWY_SCALAR  // the scalar MaskedLoad reads before it masks
  HWY_ALIGN T copy[hn::MaxLanes(d)] = {};
  if (n > 0) std::memcpy(copy, p, size_t(n) * sizeof(T));
  return hn::Load(d, copy);
#else
  return hn::MaskedLoad(hn::FirstN(d, size_t(std::max<int64_t>(n, 0))), d, p);
#endif
}

HWY_INLINE void store_first(V v, float* p, int64_t n) {
  HWY_ALIGN float copy[hn::MaxLanes(F())];
  hn::Store(v, F(), copy);
  std::memcpy(p, copy, size_t(n) * sizeof(float));
}

// Two vectors of consecutive numbers. bf16 come as even and odd elements: widening is then a shift and a
// mask, and a dot product does not care, since both sides are split alike.
struct Pair {
  V a, b;
};

HWY_INLINE Pair load_pair(const float* p) { return {hn::LoadU(F(), p), hn::LoadU(F(), p + lanes())}; }

HWY_INLINE Pair load_pair_first(const float* p, int64_t n) {
  const int64_t half = lanes();
  if (n < half) return {load_first(F(), p, n), hn::Zero(F())};
  return {hn::LoadU(F(), p), load_first(F(), p + half, n - half)};
}

HWY_INLINE const uint16_t* bits(const Bf16* p) { return reinterpret_cast<const uint16_t*>(p); }

#if HWY_TARGET == HWY_SCALAR

HWY_INLINE Pair load_pair(const Bf16* p) {
  return {hn::Set(F(), to_float(p[0])), hn::Set(F(), to_float(p[1]))};
}
HWY_INLINE Pair load_pair_first(const Bf16* p, int64_t) {
  return {hn::Set(F(), to_float(p[0])), hn::Zero(F())};
}

#else

using U16 = hn::Repartition<uint16_t, F>;

HWY_INLINE Pair widen_pair(hn::Vec<U16> both) {
  const U32 d;
  const auto words = hn::BitCast(d, both);
  return {hn::BitCast(F(), hn::ShiftLeft<16>(words)),
          hn::BitCast(F(), hn::And(words, hn::Set(d, 0xffff0000u)))};
}

HWY_INLINE Pair load_pair(const Bf16* p) { return widen_pair(hn::LoadU(U16(), bits(p))); }
HWY_INLINE Pair load_pair_first(const Bf16* p, int64_t n) {
  return widen_pair(load_first(U16(), bits(p), n));
}

#endif  // HWY_TARGET == HWY_SCALAR

// Rows of B that follow each other without a gap are read as one stream, from memory into the second-level
// cache early and into the first a little later: what they lie ahead, in bytes. The hardware would see R short
// streams, none of which tells where it goes on; read so, a core gets what reading alone would (the best of 16
// arrangements that were tried; 12 % more than the next rows at the same place, the old one).
constexpr int64_t kFarAhead = 16 << 10, kNearAhead = 8 << 10;
// From so many bytes on: less lies in a cache where it was used before.
constexpr int64_t kStreamed = 1 << 20;

// M rows of A with the next R rows of B. `rows` are left: beyond them the last one is repeated and dropped.
template <int M, int R, bool kStream, class T>
HWY_INLINE void dot_block(int64_t rows, int64_t K, const T* A, int64_t lda, const T* B, int64_t ldb,
                          bool accumulate, float* C, int64_t ldc) {
  const F d;
  const T* row[R];
  for (int r = 0; r < R; ++r) row[r] = B + std::min<int64_t>(r, rows - 1) * ldb;
  V sum[M][R];
  for (int m = 0; m < M; ++m)
    for (int r = 0; r < R; ++r) sum[m][r] = hn::Zero(d);
  const auto step = [&](auto&& load) HWY_ATTR {
    Pair x[M];
    for (int m = 0; m < M; ++m) x[m] = load(A + m * lda);
    for (int r = 0; r < R; ++r) {
      const Pair w = load(row[r]);
      for (int m = 0; m < M; ++m) sum[m][r] = hn::MulAdd(x[m].b, w.b, hn::MulAdd(x[m].a, w.a, sum[m][r]));
    }
  };
  // Every row is asked for at each step, also where a step takes less than a line of the cache.
  const int64_t pair = 2 * lanes(), line = std::min<int64_t>(pair, 64 / sizeof(T));
  // What lies behind the last row may be another thread's to write.
  const bool ahead = kStream ? (rows - R) * K * int64_t(sizeof(T)) > kFarAhead : rows >= 2 * R;
  int64_t k = 0;
  for (; k + pair <= K; k += pair) {
    for (int64_t at = 0; at < R * pair && ahead; at += line) {
      if constexpr (kStream) {
        const T* p = B + k * R + at;
        __builtin_prefetch(p + kFarAhead / int64_t(sizeof(T)), 0, 2);
        hwy::Prefetch(p + kNearAhead / int64_t(sizeof(T)));
      } else {
        hwy::Prefetch(row[at / pair] + R * ldb + k + at % pair);  // the same place of the next rows
      }
    }
    step([&](const T* p) HWY_ATTR { return load_pair(p + k); });
  }
  if (k < K) step([&](const T* p) HWY_ATTR { return load_pair_first(p + k, K - k); });

  for (int m = 0; m < M; ++m) {
    for (int r = 0; r < R; r += 4) {
      float sums[4];
      SumsOfFour(d, sum[m][r], sum[m][r + 1], sum[m][r + 2], sum[m][r + 3], sums);
      float* c = C + m * ldc + r;
      const int64_t valid = std::min<int64_t>(4, rows - r);
      for (int64_t i = 0; i < valid; ++i) c[i] = (accumulate ? c[i] : 0.0f) + sums[i];
    }
  }
}

template <int M, int R, bool kStream, class T>
void dot(int64_t N, int64_t K, const T* A, int64_t lda, const T* B, int64_t ldb, bool accumulate, float* C,
         int64_t ldc) {
  for (int64_t n = 0; n < N; n += R)
    dot_block<M, R, kStream>(N - n, K, A, lda, B + n * ldb, ldb, accumulate, C + n, ldc);
}

// With 32 registers 16 sums are held, else eight: enough to hide the latency of the multiply-add.
constexpr bool kManyRegisters = hn::MaxLanes(F()) == 16 || HWY_TARGET == HWY_NEON;

// More rows of A pass, a few at a time, over four rows of B that stay in L1.
template <class T>
void dot_any(int64_t M, int64_t N, int64_t K, const T* A, int64_t lda, const T* B, int64_t ldb,
             bool accumulate, float* C, int64_t ldc) {
  constexpr int kAtOnce = kManyRegisters ? 4 : 2;
  const bool streamed = ldb == K && N * K * int64_t(sizeof(T)) >= kStreamed;
  if (M == 1 && streamed) return dot<1, 4, true>(N, K, A, lda, B, ldb, accumulate, C, ldc);
  if (M == 1) return dot<1, 8, false>(N, K, A, lda, B, ldb, accumulate, C, ldc);
  if (M == 2 && streamed) return dot<2, 4, true>(N, K, A, lda, B, ldb, accumulate, C, ldc);
  if (M == 2) return dot < 2, kManyRegisters ? 8 : 4, false > (N, K, A, lda, B, ldb, accumulate, C, ldc);
  for (int64_t n = 0; n < N; n += 4) {
    const int64_t rows = N - n;
    const T* b = B + n * ldb;
    int64_t m = 0;
    for (; m + kAtOnce <= M; m += kAtOnce)
      dot_block<kAtOnce, 4, false>(rows, K, A + m * lda, lda, b, ldb, accumulate, C + m * ldc + n, ldc);
    const auto rest = [&](auto count) HWY_ATTR {
      if (M - m == count.value)
        dot_block<count.value, 4, false>(rows, K, A + m * lda, lda, b, ldb, accumulate, C + m * ldc + n, ldc);
    };
    rest(std::integral_constant<int, 1>());
    if constexpr (kManyRegisters) {
      rest(std::integral_constant<int, 2>());
      rest(std::integral_constant<int, 3>());
    }
  }
}

void dot_f32(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B, int64_t ldb,
             bool accumulate, float* C, int64_t ldc) {
  dot_any(M, N, K, A, lda, B, ldb, accumulate, C, ldc);
}

void dot_bf16(int64_t M, int64_t N, int64_t K, const Bf16* A, int64_t lda, const Bf16* B, int64_t ldb,
              bool accumulate, float* C, int64_t ldc) {
  dot_any(M, N, K, A, lda, B, ldb, accumulate, C, ldc);
}

// C[m][·] (+)= Σ_{r<R} factor(m, r)·B[r][·] in the order of r, which is the order of one row at a time.
template <int M, int R, class Factor>
HWY_INLINE void add_rows(int64_t N, Factor&& factor, const float* B, int64_t ldb, bool accumulate, float* C,
                         int64_t ldc) {
  const F d;
  V f[M][R];
  for (int m = 0; m < M; ++m)
    for (int r = 0; r < R; ++r) f[m][r] = hn::Set(d, factor(m, r));
  const auto step = [&](int64_t n, auto&& load, auto&& store) HWY_ATTR {
    V sum[M];
    for (int m = 0; m < M; ++m) sum[m] = accumulate ? load(C + m * ldc + n) : hn::Zero(d);
    for (int r = 0; r < R; ++r) {
      const V b = load(B + r * ldb + n);
      for (int m = 0; m < M; ++m) sum[m] = hn::MulAdd(f[m][r], b, sum[m]);
    }
    for (int m = 0; m < M; ++m) store(sum[m], C + m * ldc + n);
  };
  int64_t n = 0;
  for (; n + lanes() <= N; n += lanes())
    step(
        n, [&](const float* p) HWY_ATTR { return hn::LoadU(d, p); },
        [&](V v, float* p) HWY_ATTR { hn::StoreU(v, d, p); });
  if (n < N)
    step(
        n, [&](const float* p) HWY_ATTR { return load_first(d, p, N - n); },
        [&](V v, float* p) HWY_ATTR { store_first(v, p, N - n); });
}

template <int M, int R>
void axpy_rows(int64_t N, int64_t K, const float* A, int64_t row_step, int64_t step, const float* B,
               int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  int64_t k = 0;
  for (; k + R <= K; k += R)
    add_rows<M, R>(
        N, [&](int m, int r) { return A[m * row_step + (k + r) * step]; }, B + k * ldb, ldb,
        accumulate || k > 0, C, ldc);
  for (; k < K; ++k)
    add_rows<M, 1>(
        N, [&](int m, int) { return A[m * row_step + k * step]; }, B + k * ldb, ldb, accumulate || k > 0, C,
        ldc);
}

void axpy(int64_t M, int64_t N, int64_t K, const float* A, int64_t row_step, int64_t step, const float* B,
          int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  if (M == 1) return axpy_rows<1, 8>(N, K, A, row_step, step, B, ldb, accumulate, C, ldc);
  if (M == 2) return axpy_rows<2, 8>(N, K, A, row_step, step, B, ldb, accumulate, C, ldc);
  if (M == 3) return axpy_rows<3, 4>(N, K, A, row_step, step, B, ldb, accumulate, C, ldc);
  return axpy_rows<4, 4>(N, K, A, row_step, step, B, ldb, accumulate, C, ldc);
}

template <int K>
void outer_rows(int64_t M, int64_t N, const float* A, int64_t lda, const float* B, int64_t ldb,
                bool accumulate, float* C, int64_t ldc) {
  constexpr int kRows = 4;
  int64_t m = 0;
  for (; m + kRows <= M; m += kRows)
    add_rows<kRows, K>(
        N, [&](int i, int k) { return A[k * lda + m + i]; }, B, ldb, accumulate, C + m * ldc, ldc);
  for (; m < M; ++m)
    add_rows<1, K>(
        N, [&](int, int k) { return A[k * lda + m]; }, B, ldb, accumulate, C + m * ldc, ldc);
}

void outer(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B, int64_t ldb,
           bool accumulate, float* C, int64_t ldc) {
  if (K == 1) return outer_rows<1>(M, N, A, lda, B, ldb, accumulate, C, ldc);
  if (K == 2) return outer_rows<2>(M, N, A, lda, B, ldb, accumulate, C, ldc);
  if (K == 3) return outer_rows<3>(M, N, A, lda, B, ldb, accumulate, C, ldc);
  return outer_rows<4>(M, N, A, lda, B, ldb, accumulate, C, ldc);
}

// The same rounding as to_bf16(), whole vectors at a time.
void narrow(int64_t n, const float* from, Bf16* to) {
  const U32 d;
  const hn::Rebind<uint16_t, U32> narrow;
  int64_t i = 0;
  for (; i + lanes() <= n; i += lanes()) {
    const V x = hn::LoadU(F(), from + i);
    const auto u = hn::BitCast(d, x);
    const auto high = hn::ShiftRight<16>(u);
    const auto even = hn::Add(hn::Set(d, 0x7fffu), hn::And(high, hn::Set(d, 1u)));
    const auto rounded = hn::ShiftRight<16>(hn::Add(u, even));
    const auto quiet = hn::Or(high, hn::Set(d, 0x40u));
    const auto chosen = hn::IfThenElse(hn::RebindMask(d, hn::IsNaN(x)), quiet, rounded);
    hn::StoreU(hn::TruncateTo(narrow, chosen), narrow, reinterpret_cast<uint16_t*>(to) + i);
  }
  for (; i < n; ++i) to[i] = to_bf16(from[i]);
}

void widen(int64_t n, const Bf16* from, float* to) {
  const U32 d;
  const hn::Rebind<uint16_t, U32> narrow;
  int64_t i = 0;
  for (; i + lanes() <= n; i += lanes()) {
    const auto words = hn::PromoteTo(d, hn::LoadU(narrow, bits(from) + i));
    hn::StoreU(hn::BitCast(F(), hn::ShiftLeft<16>(words)), F(), to + i);
  }
  for (; i < n; ++i) to[i] = to_float(from[i]);
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(dot_f32);
HWY_EXPORT(dot_bf16);
HWY_EXPORT(axpy);
HWY_EXPORT(outer);
HWY_EXPORT(narrow);
HWY_EXPORT(widen);

void few_rows_dot(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B, int64_t ldb,
                  bool accumulate, float* C, int64_t ldc) {
  BROOD_ASSERT(M >= 1);
  if (few_rows_lanes_dot(M, N, K, A, lda, B, ldb, accumulate, C, ldc)) return;
  HWY_DYNAMIC_DISPATCH(dot_f32)(M, N, K, A, lda, B, ldb, accumulate, C, ldc);
}

void few_rows_dot(int64_t M, int64_t N, int64_t K, const Bf16* A, int64_t lda, const Bf16* B, int64_t ldb,
                  bool accumulate, float* C, int64_t ldc) {
  BROOD_ASSERT(M >= 1);
  HWY_DYNAMIC_DISPATCH(dot_bf16)(M, N, K, A, lda, B, ldb, accumulate, C, ldc);
}

void few_rows_axpy(int64_t M, int64_t N, int64_t K, const float* A, int64_t row_step, int64_t step,
                   const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  BROOD_ASSERT(M >= 1 && M <= 4);
  HWY_DYNAMIC_DISPATCH(axpy)(M, N, K, A, row_step, step, B, ldb, accumulate, C, ldc);
}

void few_outer(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B, int64_t ldb,
               bool accumulate, float* C, int64_t ldc) {
  BROOD_ASSERT(K >= 1 && K <= 4);
  HWY_DYNAMIC_DISPATCH(outer)(M, N, K, A, lda, B, ldb, accumulate, C, ldc);
}

void convert_range(int64_t n, const float* from, Bf16* to) { HWY_DYNAMIC_DISPATCH(narrow)(n, from, to); }
void convert_range(int64_t n, const Bf16* from, float* to) { HWY_DYNAMIC_DISPATCH(widen)(n, from, to); }

}  // namespace brood::kernels
#endif  // HWY_ONCE
