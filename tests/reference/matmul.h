// The obvious product: one sum in double precision per number of C. bound receives Σ |a·b| (+ |C|), by which
// rounding errors are measured.
#pragma once

#include <cmath>
#include <cstdint>

#include "brood/kernels/matmul.h"

namespace brood::reference {

inline double widened(float x) { return x; }
inline double widened(Bf16 x) { return to_float(x); }

template <class T>
void matmul(kernels::Order a_order, kernels::Order b_order, int64_t M, int64_t N, int64_t K, const T* A,
            int64_t lda, const T* B, int64_t ldb, bool accumulate, double* C, double* bound, int64_t ldc) {
  const bool a_plain = a_order == kernels::Order::kPlain, b_plain = b_order == kernels::Order::kPlain;
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) {
      double sum = accumulate ? C[m * ldc + n] : 0.0, size = std::abs(sum);
      for (int64_t k = 0; k < K; ++k) {
        const double product =
            widened(A[a_plain ? m * lda + k : k * lda + m]) * widened(B[b_plain ? k * ldb + n : n * ldb + k]);
        sum += product;
        size += std::abs(product);
      }
      C[m * ldc + n] = sum;
      bound[m * ldc + n] = size;
    }
  }
}

}  // namespace brood::reference
