// bf16 products by instructions that Highway does not know: AMX tiles (TDPBF16PS) and AVX-512 BF16
// (VDPBF16PS).
//
// The unit is a tile product, out[16][16] += left[16][32] · right[32][16], with
//
//   left    16 rows of 32 consecutive numbers of k; where the operand is stored row by row it is read in place
//   right   16 rows, one per pair of k, of 16 columns x 2 numbers: (k, k+1) of a column side by side in 32
//           bits; always packed first, zeros beyond the edges
//
// A product y = x Wᵀ with weights stored [out, in] is computed as yᵀ = W xᵀ: so the weights are the left
// operand, are read in place, once, and only the small x is packed. The price is a transposition of each
// 16x16 tile of y.
#pragma once

#include <cstdint>

#include "brood/kernels/matmul.h"

namespace brood::kernels {

enum class Bf16Kernel : uint8_t {
  kWidened,  // numbers are widened and multiplied in f32
  kAvx512,
  kAmx,
};

// What the CPU, the operating system and the chosen SIMD target (AVX-512 or not) allow and what is fastest
// here.
Bf16Kernel bf16_choice();
bool bf16_supported(Bf16Kernel kernel);
void force_bf16_kernel(Bf16Kernel kernel);  // for tests and benchmarks; must be supported
void unforce_bf16_kernel();

// C[M,N] as matmul() defines it, by the pool. kernel is kAvx512 or kAmx. M, N, K > 0.
void bf16_product(Bf16Kernel kernel, Order a_order, Order b_order, int64_t M, int64_t N, int64_t K,
                  const Bf16* A, int64_t lda, const Bf16* B, int64_t ldb, bool accumulate, float* C,
                  int64_t ldc);

// y[n] (+)= Σ_k x[k]·W[n][k] for one row, by AMX, on the calling thread. K is a multiple of 32. Faster than dot
// products where the weights lie in a cache; from memory they come more smoothly row by row (few_rows.h).
void bf16_row(int64_t N, int64_t K, const Bf16* x, const Bf16* W, int64_t ldw, bool accumulate, float* y);

// Multiplies tiles that stay in registers, `steps` times; returns the floating-point operations done.
double bf16_burst(Bf16Kernel kernel, int64_t steps);

}  // namespace brood::kernels
