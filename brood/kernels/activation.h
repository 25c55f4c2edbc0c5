// Elementwise operations over n contiguous numbers. Backward functions add to dx.
#pragma once

#include <cstdint>

namespace brood::kernels {

void add(int64_t n, const float* a, const float* b, float* y);
void add_to(int64_t n, const float* x, float* y);                    // y += x
void scale(int64_t n, float factor, float* x);                       // x *= factor
void add_scaled(int64_t n, float factor, const float* x, float* y);  // y += factor·x
void mul(int64_t n, const float* a, const float* b, float* y);
void mul_backward(int64_t n, const float* a, const float* b, const float* dy, float* da,
                  float* db);  // da, db may be null

void relu(int64_t n, const float* x, float* y);  // max(x, 0)
void relu_backward(int64_t n, const float* x, const float* dy, float* dx);

void silu(int64_t n, const float* x, float* y);  // x·σ(x)
void silu_backward(int64_t n, const float* x, const float* dy, float* dx);

// SwiGLU (Shazeer 2020): y = silu(gate)∘up.
void swiglu(int64_t n, const float* gate, const float* up, float* y);
void swiglu_backward(int64_t n, const float* gate, const float* up, const float* dy, float* dgate,
                     float* dup);

// The backward of these two takes y: σ' = y·(1 − y), tanh' = 1 − y².
void sigmoid(int64_t n, const float* x, float* y);
void sigmoid_backward(int64_t n, const float* y, const float* dy, float* dx);
void tanh(int64_t n, const float* x, float* y);
void tanh_backward(int64_t n, const float* y, const float* dy, float* dx);

void exp(int64_t n, const float* x, float* y);  // backward: dx += dy∘y

// GELU (Hendrycks and Gimpel 2016): x·Φ(x) with the normal distribution Φ itself, not its tanh approximation.
void gelu(int64_t n, const float* x, float* y);
void gelu_backward(int64_t n, const float* x, const float* dy, float* dx);

// Mamba-3's map to positive numbers: 1 + x for x >= 0, 1/(1 − x) below, but never under `least`. Backward
// takes y.
void heavy_tail(int64_t n, const float* x, float least, float* y);
void heavy_tail_backward(int64_t n, const float* y, float least, const float* dy, float* dx);

// Each of `rows` rows of `cols` numbers times a number of its own: y[r][c] = factor[r]·x[r][c]. Backward
// adds to dx and dfactor; each may be null.
void scale_rows(int64_t rows, int64_t cols, const float* x, const float* factor, float* y);
void scale_rows_backward(int64_t rows, int64_t cols, const float* x, const float* factor, const float* dy,
                         float* dx, float* dfactor);

// The products of rows: y[r] = Σ_c a[r][c]·b[r][c]. Backward: da += dy·b and db += dy·a, row by row.
void dot_rows(int64_t rows, int64_t cols, const float* a, const float* b, float* y);
// y[r][c] += factor[r]·x[r][c]
void add_scaled_rows(int64_t rows, int64_t cols, const float* x, const float* factor, float* y);

// Inverted dropout: keeps x[i] with probability 1−rate and scales by 1/(1−rate). The mask is a hash of (seed,
// i), so backward calls the same function on dy, and no mask is stored.
void dropout(int64_t n, uint64_t seed, float rate, const float* x, float* y);

}  // namespace brood::kernels
