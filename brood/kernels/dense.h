// One block of a dense f32 product on the calling thread: oneDNN's sgemm, or the Highway tiles where it is
// absent.
#pragma once

#include <cstdint>
#include <string>

#include "brood/kernels/matmul.h"

namespace brood::kernels {

void dense_block(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const float* A, int64_t lda,
                 const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc);

std::string dense_library();  // "oneDNN 2.6.3 (AVX512_CORE)" or "brood tiles"

}  // namespace brood::kernels
