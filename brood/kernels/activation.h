// Elementwise operations over n contiguous numbers. Backward functions add to dx.
#pragma once

#include <cstdint>

namespace brood::kernels {

void add(int64_t n, const float* a, const float* b, float* y);
void add_to(int64_t n, const float* x, float* y);  // y += x
void scale(int64_t n, float factor, float* x);     // x *= factor
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

// Inverted dropout: keeps x[i] with probability 1−rate and scales by 1/(1−rate). The mask is a hash of (seed,
// i), so backward calls the same function on dy, and no mask is stored.
void dropout(int64_t n, uint64_t seed, float rate, const float* x, float* y);

}  // namespace brood::kernels
