// Our own dense f32 product, single-threaded: where oneDNN is absent, and where it is slower (y = x Wᵀ with
// few dozen rows, for which oneDNN packs all the weights at every call).
#pragma once

#include <cstdint>

#include "brood/kernels/matmul.h"

namespace brood::kernels {

// C[M,N] as matmul() defines it; M, N, K > 0.
void tiles_product(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const float* A, int64_t lda,
                   const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc);

}  // namespace brood::kernels
