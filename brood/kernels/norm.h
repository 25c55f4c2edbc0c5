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

// LayerNorm (Ba, Kiros and Hinton 2016) with its affine part: y = x̂∘w + b, x̂ = (x − mean)·rstd. weight and
// bias hold `parts` rows of `cols` numbers; row r of x takes row r % parts of them, and rows are a multiple of
// parts: with x cut into its groups this is GroupNorm (Wu and He 2018). moments [rows][2], mean and rstd, are
// kept for backward (may be null when not recording).
void affine_layer_norm_forward(int64_t rows, int64_t cols, int64_t parts, const float* x, const float* weight,
                               const float* bias, float eps, float* y, float* moments);
// With g = dy∘w: dx += rstd·(g − mean(g) − x̂·mean(g∘x̂)), dw += Σ dy∘x̂, db += Σ dy. dx may be null.
void affine_layer_norm_backward(int64_t rows, int64_t cols, int64_t parts, const float* x,
                                const float* weight, const float* moments, const float* dy, float* dx,
                                float* dweight, float* dbias);

}  // namespace brood::kernels
