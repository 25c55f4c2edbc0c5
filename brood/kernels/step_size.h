// Step sizes and the decays that follow from them, a few numbers a row (Mamba-2, Gated DeltaNet): one column
// a head. Backward functions add; dx may be null.
#pragma once

#include <cstdint>

namespace brood::kernels {

// y = softplus(x + bias) = log(1 + e^{x + bias}). x and dx have the row stride ldx, the rest is contiguous.
void softplus(int64_t rows, int64_t cols, const float* x, int64_t ldx, const float* bias, float* y);
void softplus_backward(int64_t rows, int64_t cols, const float* x, int64_t ldx, const float* bias,
                       const float* dy, float* dx, float* dbias);

// y = A∘x with A = −e^{a_log}, a number a column. Backward takes y: da_log = Σ dy∘y.
void decay_rates(int64_t rows, int64_t cols, const float* x, const float* a_log, float* y);
void decay_rates_backward(int64_t rows, int64_t cols, const float* y, const float* a_log, const float* dy,
                          float* dx, float* da_log);

}  // namespace brood::kernels
