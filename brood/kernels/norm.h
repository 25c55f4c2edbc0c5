// Normalisations over the columns of each row. All arrays row-major and contiguous unless a stride is named.
#pragma once

#include <cstdint>

namespace brood::kernels {

// RMSNorm (Zhang and Sennrich 2019): y = x / sqrt(mean(x²) + eps) · w.  rstd[rows] is kept for backward (may
// be null when not recording).
void rms_norm_forward(int64_t rows, int64_t cols, const float* x, const float* weight, float eps, float* y,
                      float* rstd);
// dx += r·(dy∘w − x̂·mean(dy∘w∘x̂)), dw += Σ dy∘x̂ with x̂ = x·r. dx or dweight may be null.
void rms_norm_backward(int64_t rows, int64_t cols, const float* x, const float* weight, const float* rstd,
                       const float* dy, float* dx, float* dweight);

// LayerNorm without affine part: y = (x − mean)/sqrt(var + eps), biased variance. rstd may be null.
void layer_norm_forward(int64_t rows, int64_t cols, const float* x, float eps, float* y, float* rstd);
// dx += rstd·(dy − mean(dy) − y·mean(dy∘y)); needs y only, not x.
void layer_norm_backward(int64_t rows, int64_t cols, const float* y, const float* rstd, const float* dy,
                         float* dx);

}  // namespace brood::kernels
