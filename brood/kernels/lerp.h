// Linear interpolation from x to z: y = x + (z − x)∘share. Matrices are [rows, cols], contiguous; share is
// one row for all (RWKV's mix of a step with the one before it), or has as many numbers as x where `own`.
#pragma once

#include <cstdint>

namespace brood::kernels {

void lerp(int64_t rows, int64_t cols, const float* x, const float* z, const float* share, bool own, float* y);

// dx += dy∘(1 − share), dz += dy∘share, dshare += dy∘(z − x), the latter summed over rows unless own. Each may
// be null.
void lerp_backward(int64_t rows, int64_t cols, const float* x, const float* z, const float* share, bool own,
                   const float* dy, float* dx, float* dz, float* dshare);

}  // namespace brood::kernels
