// Products. One entry for every dense product in the library.
//
//   matmul:  C[M,N] = op(A) op(B) (+ C when accumulate)     row-major, leading dimensions in elements
//
// op(A) is [M,K], op(B) is [K,N]; kTransposed means that the operand is stored the other way round, so the
// usual y[T,out] = x[T,in] Wᵀ with W stored [out,in] is matmul(kPlain, kTransposed, T, out, in, x, in, W, in,
// false, y, out).
//
// Few rows (M <= kFewRows, B transposed: decoding) run our own Highway kernels at memory bandwidth; more rows
// go to oneDNN, called single-threaded from our pool, with transposed operands turned beforehand; without
// oneDNN a Highway tile kernel stands in. The work is cut into blocks of C by shape alone, never by the
// number of threads and never inside a sum over K, so results do not depend on the number of threads. A row
// of C depends on that row of op(A) and on the shapes alone.
//
// bf16: operands Bf16, sums and C in f32 (vdpbf16ps or AMX where the CPU has them, widened products
// elsewhere). No allocation after the first call of a shape.
#pragma once

#include <cstdint>

#include "brood/tensor/tensor.h"

namespace brood::kernels {

enum class Order : uint8_t { kPlain, kTransposed };

constexpr int64_t kFewRows = 4;

void matmul(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const float* A, int64_t lda,
            const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc);

void matmul(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const Bf16* A, int64_t lda,
            const Bf16* B, int64_t ldb, bool accumulate, float* C, int64_t ldc);

// Elementwise conversion, n elements; threaded when large.
void convert(int64_t n, const float* from, Bf16* to);
void convert(int64_t n, const Bf16* from, float* to);

}  // namespace brood::kernels
