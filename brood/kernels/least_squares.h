// The two loops of recursive least squares, in double precision: a closed form lives on the digits that a
// float does not have. Matrices are symmetric [n, n], contiguous.
#pragma once

#include <cstdint>

namespace brood::kernels {

// g = P z; returns zᵀ P z.
double symmetric_product(int64_t n, const double* p, const double* z, double* g);

// P = (P − g gᵀ) · scale. What was symmetric to the bit stays so.
void symmetric_downdate(int64_t n, const double* g, double scale, double* p);

// P = P + z zᵀ.
void symmetric_update(int64_t n, const double* z, double* p);

// Σ a∘b.
double dot(int64_t n, const double* a, const double* b);

// y += a x.
void add_scaled(int64_t n, double a, const double* x, double* y);

}  // namespace brood::kernels
