// Which loop runs, and how C is cut into tasks. Both follow from the shape alone.
#include "brood/kernels/matmul.h"

#include <algorithm>
#include <cstring>

#include "brood/base/threads.h"
#include "brood/kernels/bf16_tiles.h"
#include "brood/kernels/dense.h"
#include "brood/kernels/few_rows.h"
#include "brood/kernels/machine.h"
#include "brood/kernels/scratch.h"
#include "brood/kernels/turn.h"

namespace brood::kernels {
namespace {

// Below this many bytes of the large operand one thread is done (at some 50 GB/s from its own cache) before
// others could be of use.
constexpr int64_t kThreadedBytes = 128 << 10;
// The same for products that compute: some 20 µs on one core.
constexpr int64_t kThreadedFlops = 3'000'000;
// Up to so many rows, widening bf16 weights keeps up with memory and reads them more smoothly than tiles do.
constexpr int64_t kFewWidenedRows = 2;

// Weights of so many bytes, one matrix of many, may well lie in a cache when they are wanted again.
constexpr int64_t kCachedWeights = 512 << 10;

// y = x Wᵀ runs as dot products, which take the weights as they lie, while x stays in L1 beside them; beyond
// that oneDNN is faster, although it packs the weights at every call.
constexpr int64_t kDotRows = 32, kDotFloats = 8192;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Runs body(begin, end) over [0, n) in ranges of `step`, by the pool when `threaded`.
template <class Body>
void ranges(int64_t n, int64_t step, bool threaded, Body&& body) {
  if (!threaded) return body(int64_t(0), n);
  parallel(ceil_div(n, step), [&](int64_t i) { body(i * step, std::min(n, (i + 1) * step)); });
}

// Range of rows or columns of one task: about 32 KB of the large operand, a multiple of 16.
int64_t streaming_step(int64_t bytes_each) {
  return std::max<int64_t>(16, (32 << 10) / bytes_each / 16 * 16);
}

void clear(int64_t M, int64_t N, float* C, int64_t ldc) {
  for (int64_t m = 0; m < M; ++m) std::memset(C + m * ldc, 0, size_t(N) * sizeof(float));
}

// rows(N, B, C): the product with N rows of B, on the calling thread.
template <class T, class Rows>
void dot(int64_t M, int64_t N, int64_t K, const T* B, int64_t ldb, float* C, Rows&& rows) {
  // A bf16 weight takes as long to widen and multiply as an f32 weight to read from a cache, and from memory
  // one thread gets half of what two do: numbers count, not bytes.
  const bool threaded = N * K * int64_t(sizeof(float)) >= kThreadedBytes || 2 * M * N * K >= kThreadedFlops;
  if (!threaded) return rows(N, B, C);
  // A thread's tasks go as one: the loop prefetches the next rows, and must not take those of another thread
  // out of its cache.
  const int64_t step = streaming_step(K * int64_t(sizeof(T)));
  parallel_ranges(ceil_div(N, step), [&](int64_t first, int64_t last) {
    const int64_t begin = first * step, end = std::min(N, last * step);
    rows(end - begin, B + begin * ldb, C + begin);
  });
}

template <class T>
void few_rows(int64_t M, int64_t N, int64_t K, const T* A, int64_t lda, const T* B, int64_t ldb,
              bool accumulate, float* C, int64_t ldc) {
  dot(M, N, K, B, ldb, C,
      [=](int64_t n, const T* b, float* c) { few_rows_dot(M, n, K, A, lda, b, ldb, accumulate, c, ldc); });
}

void axpy(int64_t M, int64_t N, int64_t K, const float* A, int64_t row_step, int64_t step, const float* B,
          int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  // Columns are cut coarsely: each task walks down all rows of B, and short pieces of rows read badly.
  const int64_t columns = std::max<int64_t>(128, ceil_div(ceil_div(N, 16), 16) * 16);
  ranges(N, columns, N * K * int64_t(sizeof(float)) >= kThreadedBytes, [&](int64_t begin, int64_t end) {
    few_rows_axpy(M, end - begin, K, A, row_step, step, B + begin, ldb, accumulate, C + begin, ldc);
  });
}

void outer(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B, int64_t ldb,
           bool accumulate, float* C, int64_t ldc) {
  const int64_t row_bytes = N * int64_t(sizeof(float));
  ranges(M, streaming_step(row_bytes), M * row_bytes >= kThreadedBytes, [&](int64_t begin, int64_t end) {
    few_outer(end - begin, N, K, A + begin, lda, B, ldb, accumulate, C + begin * ldc, ldc);
  });
}

// How C and its sums are cut. oneDNN multiplies operands that lie as they are multiplied (both kPlain) at 95
// % of what a core can do; others it packs first, anew for every block. So a task turns its part of a
// transposed operand into memory of its own, which stays in L2, and as much of the other operand as possible
// passes over it. Sums are cut so that the part turned is small enough.
struct Blocks {
  int64_t rows, columns, depth;
};
constexpr int64_t kTurned = 192, kPassing = 1024, kDepth = 1024;
constexpr int64_t kLeastTasks = 4, kLeastPassing = 128;

// n in equal pieces of at most `most`, in whole vectors.
int64_t piece(int64_t n, int64_t most) { return ceil_div(ceil_div(n, ceil_div(n, most)), 16) * 16; }

Blocks blocks(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K) {
  // The rows of A are turned where A is transposed and B is not; else columns are cut finely.
  const bool by_rows = a_order == Order::kTransposed && b_order == Order::kPlain;
  const int64_t turned = by_rows ? M : N, passing = by_rows ? N : M;
  const int64_t narrow = piece(turned, kTurned);
  const int64_t wanted = ceil_div(kLeastTasks, ceil_div(turned, narrow));
  const int64_t broad = piece(passing, std::clamp(passing / wanted, kLeastPassing, kPassing));
  return {by_rows ? narrow : broad, by_rows ? broad : narrow, ceil_div(K, ceil_div(K, kDepth))};
}

// Rows that lie a multiple of 2 KB apart share few sets of the caches: such a B is copied, block by block.
constexpr int64_t kCrowded = 512, kCopiedRows = 256;

// A block of C over a piece of its sums.
void part_product(Order a_order, Order b_order, const Blocks& p, const float* A, int64_t lda, const float* B,
                  int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  thread_local Scratch scratch;
  const bool a_plain = a_order == Order::kPlain, b_plain = b_order == Order::kPlain;
  const int64_t a_size = a_plain ? 0 : p.rows * p.depth, b_size = b_plain ? 0 : p.columns * p.depth;
  float* turned = a_size + b_size > 0 ? scratch.get<float>(a_size + b_size) : nullptr;
  if (!a_plain) {
    turn(p.rows, p.depth, A, lda, turned, p.depth);
    A = turned;
    lda = p.depth;
  }
  if (!b_plain) {
    turn(p.depth, p.columns, B, ldb, turned + a_size, p.columns);
    B = turned + a_size;
    ldb = p.columns;
  }
  dense_block(Order::kPlain, Order::kPlain, p.rows, p.columns, p.depth, A, lda, B, ldb, accumulate, C, ldc);
}

// Up to so many rows, and fewer than numbers in a sum, turning the result costs less than turning the
// weights.
constexpr int64_t kTurnedRows = 192;

// C = A Bᵀ with few rows as Cᵀ = B Aᵀ: the large operand stays where it is, and the small ones are turned.
void few_rows_turned(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B,
                     int64_t ldb, float* C, int64_t ldc) {
  thread_local Scratch turned_a;
  float* a = turned_a.get<float>(K * M);
  turn(K, M, A, lda, a, M);
  const int64_t columns = piece(N, kTurned);
  parallel(ceil_div(N, columns), [&](int64_t task) {
    const int64_t n = task * columns, width = std::min(columns, N - n);
    thread_local Scratch scratch;
    float* c = scratch.get<float>(width * M);
    dense_block(Order::kPlain, Order::kPlain, width, M, K, B + n * ldb, ldb, a, M, false, c, M);
    turn(M, width, c, M, C + n, ldc);
  });
}

void dense(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const float* A, int64_t lda,
           const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  if (2 * M * N * K < kThreadedFlops)
    return dense_block(a_order, b_order, M, N, K, A, lda, B, ldb, accumulate, C, ldc);
  if (a_order == Order::kPlain && b_order == Order::kTransposed && !accumulate && M <= kTurnedRows && M < K)
    return few_rows_turned(M, N, K, A, lda, B, ldb, C, ldc);
  const Blocks block = blocks(a_order, b_order, M, N, K);
  const bool a_plain = a_order == Order::kPlain, b_plain = b_order == Order::kPlain;
  const int64_t across = ceil_div(N, block.columns), down = ceil_div(M, block.rows);
  thread_local Scratch copies;
  const bool copied = b_plain && ldb % kCrowded == 0 && M >= kCopiedRows;
  float* copy = copied ? copies.get<float>(block.depth * N) : nullptr;
  for (int64_t k = 0; k < K; k += block.depth) {
    const int64_t depth = std::min(block.depth, K - k);
    const auto columns = [&](int64_t n) { return std::min(block.columns, N - n); };
    if (copied) {
      constexpr int64_t kRows = 64;
      parallel(ceil_div(depth, kRows), [&](int64_t i) {
        for (int64_t r = i * kRows; r < std::min(depth, (i + 1) * kRows); ++r)
          for (int64_t n = 0; n < N; n += block.columns)
            std::memcpy(copy + n * depth + r * columns(n), B + (k + r) * ldb + n,
                        size_t(columns(n)) * sizeof(float));
      });
    }
    parallel(across * down, [&](int64_t task) {
      // Tasks that follow each other share the columns of C, and so the rows of B (the weights).
      const int64_t n = task / down * block.columns, m = task % down * block.rows;
      const Blocks part{std::min(block.rows, M - m), columns(n), depth};
      const float* b = copied ? copy + n * depth : b_plain ? B + k * ldb + n : B + n * ldb + k;
      part_product(a_order, b_order, part, a_plain ? A + m * lda + k : A + k * lda + m, lda, b,
                   copied ? part.columns : ldb, accumulate || k > 0, C + m * ldc + n, ldc);
    });
  }
}

template <class T>
void check(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const T* A, int64_t lda, const T* B,
           int64_t ldb, const float* C, int64_t ldc) {
  BROOD_ASSERT(M >= 0 && N >= 0 && K >= 0);
  [[maybe_unused]] static const bool wish_checked = (check_simd_wish(), true);
  BROOD_ASSERT(lda >= (a_order == Order::kPlain ? K : M) && ldb >= (b_order == Order::kPlain ? N : K) &&
               ldc >= N);
  BROOD_ASSERT(M * N == 0 || (C != nullptr && (K == 0 || (A != nullptr && B != nullptr))));
}

}  // namespace

void matmul(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const float* A, int64_t lda,
            const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  check(a_order, b_order, M, N, K, A, lda, B, ldb, C, ldc);
  if (M == 0 || N == 0) return;
  if (K == 0) return accumulate ? void() : clear(M, N, C, ldc);
  const bool a_plain = a_order == Order::kPlain, b_plain = b_order == Order::kPlain;
  if (a_plain && !b_plain && (M <= kFewRows || (M <= kDotRows && M * K <= kDotFloats)))
    return few_rows(M, N, K, A, lda, B, ldb, accumulate, C, ldc);
  if (M <= kFewRows && b_plain)
    return axpy(M, N, K, A, a_plain ? lda : 1, a_plain ? 1 : lda, B, ldb, accumulate, C, ldc);
  if (K <= kFewRows && !a_plain && b_plain) return outer(M, N, K, A, lda, B, ldb, accumulate, C, ldc);
  dense(a_order, b_order, M, N, K, A, lda, B, ldb, accumulate, C, ldc);
}

namespace {

// A stored rows x columns block, widened and contiguous.
void widen(int64_t rows, int64_t columns, const Bf16* from, int64_t ld, float* to) {
  for (int64_t r = 0; r < rows; ++r) convert_range(columns, from + r * ld, to + r * columns);
}

// Blocks of C whose operands are widened and multiplied in f32.
void widened(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const Bf16* A, int64_t lda,
             const Bf16* B, int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  constexpr int64_t kRows = 128, kColumns = 256, kDepth = 1024;
  const bool a_plain = a_order == Order::kPlain, b_plain = b_order == Order::kPlain;
  const int64_t across = ceil_div(N, kColumns), down = ceil_div(M, kRows);
  const auto block = [&](int64_t task) {
    const int64_t n = task / down * kColumns, m = task % down * kRows;
    const int64_t rows = std::min(kRows, M - m), columns = std::min(kColumns, N - n);
    thread_local Scratch scratch;
    float* a = scratch.get<float>((rows + columns) * std::min(K, kDepth));
    for (int64_t k = 0; k < K; k += kDepth) {
      const int64_t depth = std::min(kDepth, K - k);
      float* b = a + rows * depth;
      a_plain ? widen(rows, depth, A + m * lda + k, lda, a) : widen(depth, rows, A + k * lda + m, lda, a);
      b_plain ? widen(depth, columns, B + k * ldb + n, ldb, b)
              : widen(columns, depth, B + n * ldb + k, ldb, b);
      dense_block(a_order, b_order, rows, columns, depth, a, a_plain ? depth : rows, b,
                  b_plain ? columns : depth, accumulate || k > 0, C + m * ldc + n, ldc);
    }
  };
  if (2 * M * N * K >= kThreadedFlops) return parallel(across * down, block);
  for (int64_t task = 0; task < across * down; ++task) block(task);
}

}  // namespace

void matmul(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const Bf16* A, int64_t lda,
            const Bf16* B, int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  check(a_order, b_order, M, N, K, A, lda, B, ldb, C, ldc);
  if (M == 0 || N == 0) return;
  if (K == 0) return accumulate ? void() : clear(M, N, C, ldc);
  const Bf16Kernel kernel = bf16_choice();
  const bool streams = a_order == Order::kPlain && b_order == Order::kTransposed;
  if (M == 1 && streams && kernel == Bf16Kernel::kAmx && K % 32 == 0 && N * K * 2 <= kCachedWeights)
    return dot(M, N, K, B, ldb, C,
               [=](int64_t n, const Bf16* b, float* c) { bf16_row(n, K, A, b, ldb, accumulate, c); });
  if (M <= (kernel == Bf16Kernel::kWidened ? kFewRows : kFewWidenedRows) && streams)
    return few_rows(M, N, K, A, lda, B, ldb, accumulate, C, ldc);
  if (kernel != Bf16Kernel::kWidened)
    return bf16_product(kernel, a_order, b_order, M, N, K, A, lda, B, ldb, accumulate, C, ldc);
  widened(a_order, b_order, M, N, K, A, lda, B, ldb, accumulate, C, ldc);
}

namespace {

template <class From, class To>
void convert_any(int64_t n, const From* from, To* to) {
  constexpr int64_t kStep = 32 << 10;
  ranges(n, kStep, n >= 4 * kStep,
         [&](int64_t begin, int64_t end) { convert_range(end - begin, from + begin, to + begin); });
}

}  // namespace

void convert(int64_t n, const float* from, Bf16* to) { convert_any(n, from, to); }
void convert(int64_t n, const Bf16* from, float* to) { convert_any(n, from, to); }

}  // namespace brood::kernels
