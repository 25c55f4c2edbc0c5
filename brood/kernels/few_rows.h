// Products with few rows (M <= kFewRows), where all the time goes into reading the large operand once:
// decoding and live learning. Single-threaded loops over a range of that operand; matmul() cuts the ranges.
// Row-major throughout.
//
// Every sum runs in an order fixed by M and K alone, whatever the other rows hold; of up to 4 rows by K
// alone, so that a row gives the same bits whether it comes alone or with others.
#pragma once

#include <cstdint>

#include "brood/tensor/tensor.h"

namespace brood::kernels {

// C[m][n] (+)= Σ_k A[m][k]·B[n][k]: dot products with the rows of B, M >= 1.
void few_rows_dot(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B, int64_t ldb,
                  bool accumulate, float* C, int64_t ldc);
void few_rows_dot(int64_t M, int64_t N, int64_t K, const Bf16* A, int64_t lda, const Bf16* B, int64_t ldb,
                  bool accumulate, float* C, int64_t ldc);

// The same for rows enough to fill a vector's lanes and K <= kFewRowsInLanes. Says false, and does nothing,
// where few_rows_dot's other way (along k) is faster; few_rows_dot asks it itself.
constexpr int64_t kFewRowsInLanes = 512;
bool few_rows_lanes_dot(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B,
                        int64_t ldb, bool accumulate, float* C, int64_t ldc);

// C[m][n] (+)= Σ_k A[m·row_step + k·step]·B[k][n]: rows of B scaled and added up, M in [1, kFewRows].
void few_rows_axpy(int64_t M, int64_t N, int64_t K, const float* A, int64_t row_step, int64_t step,
                   const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc);

// C[m][n] (+)= Σ_{k<K} A[k][m]·B[k][n] for K in [1, kFewRows]: a few outer products.
void few_outer(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B, int64_t ldb,
               bool accumulate, float* C, int64_t ldc);

// Elementwise conversion of n numbers, single-threaded.
void convert_range(int64_t n, const float* from, Bf16* to);
void convert_range(int64_t n, const Bf16* from, float* to);

}  // namespace brood::kernels
