#include "brood/kernels/norm.h"

#include <algorithm>
#include <cmath>

#include "brood/base/error.h"
#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/norm.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

void rms_forward_row(int64_t cols, const float* x, const float* weight, float eps, float* y, float* rstd) {
  const float squares = sum_over(cols, [&](auto d, int64_t i, auto sum) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i);
    return hn::MulAdd(v, v, sum);
  });
  const float r = 1.0f / std::sqrt(squares / float(cols) + eps);
  for_each_vector(0, cols, [&](auto d, int64_t i) HWY_ATTR {
    const auto scaled = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, r));
    hn::StoreU(hn::Mul(scaled, hn::LoadU(d, weight + i)), d, y + i);
  });
  if (rstd != nullptr) *rstd = r;
}

// With s = Σ dy∘w∘x: r·(dy∘w − x̂·mean(dy∘w∘x̂)) = r·(dy∘w) − (r³·s/cols)·x.
void rms_backward_row(int64_t cols, const float* x, const float* weight, float r, const float* dy,
                      float* dx) {
  const float s = sum_over(cols, [&](auto d, int64_t i, auto sum) HWY_ATTR {
    return hn::MulAdd(hn::Mul(hn::LoadU(d, dy + i), hn::LoadU(d, weight + i)), hn::LoadU(d, x + i), sum);
  });
  const float along_x = r * (r * s / float(cols)) * r;
  for_each_vector(0, cols, [&](auto d, int64_t i) HWY_ATTR {
    const auto g = hn::Mul(hn::LoadU(d, dy + i), hn::LoadU(d, weight + i));
    const auto across = hn::NegMulAdd(hn::Set(d, along_x), hn::LoadU(d, x + i), hn::LoadU(d, dx + i));
    hn::StoreU(hn::MulAdd(hn::Set(d, r), g, across), d, dx + i);
  });
}

void rms_forward_rows(int64_t begin, int64_t end, int64_t cols, const float* x, const float* weight,
                      float eps, float* y, float* rstd) {
  for (int64_t row = begin; row < end; ++row)
    rms_forward_row(cols, x + row * cols, weight, eps, y + row * cols,
                    rstd == nullptr ? nullptr : rstd + row);
}

void rms_backward_rows(int64_t begin, int64_t end, int64_t cols, const float* x, const float* weight,
                       const float* rstd, const float* dy, float* dx) {
  for (int64_t row = begin; row < end; ++row)
    rms_backward_row(cols, x + row * cols, weight, rstd[row], dy + row * cols, dx + row * cols);
}

void rms_backward_weight(int64_t begin, int64_t end, int64_t rows, int64_t cols, const float* x,
                         const float* rstd, const float* dy, float* dweight) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* x_row = x + row * cols;
    const float* dy_row = dy + row * cols;
    for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
      const auto normalised = hn::Mul(hn::LoadU(d, x_row + i), hn::Set(d, rstd[row]));
      hn::StoreU(hn::MulAdd(hn::LoadU(d, dy_row + i), normalised, hn::LoadU(d, dweight + i)), d, dweight + i);
    });
  }
}

struct Moments {
  float mean, rstd;
};

Moments moments_of(int64_t cols, const float* x, float eps) {
  const float mean = sum_over(cols, [&](auto d, int64_t i, auto sum)
                                        HWY_ATTR { return hn::Add(sum, hn::LoadU(d, x + i)); }) /
                     float(cols);
  const float squares = sum_over(cols, [&](auto d, int64_t i, auto sum) HWY_ATTR {
    const auto v = hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean));
    return hn::MulAdd(v, v, sum);
  });
  return {mean, 1.0f / std::sqrt(squares / float(cols) + eps)};
}

// x̂ at position i.
template <class D>
HWY_INLINE hn::Vec<D> normalised(D d, const float* x, int64_t i, Moments m) {
  return hn::Mul(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, m.mean)), hn::Set(d, m.rstd));
}

void layer_forward_row(int64_t cols, const float* x, float eps, float* y, float* rstd) {
  const Moments m = moments_of(cols, x, eps);
  for_each_vector(0, cols, [&](auto d, int64_t i) HWY_ATTR { hn::StoreU(normalised(d, x, i, m), d, y + i); });
  if (rstd != nullptr) *rstd = m.rstd;
}

void layer_backward_row(int64_t cols, const float* y, float r, const float* dy, float* dx) {
  const float mean = sum_over(cols, [&](auto d, int64_t i, auto sum)
                                        HWY_ATTR { return hn::Add(sum, hn::LoadU(d, dy + i)); }) /
                     float(cols);
  const float along_y =
      sum_over(cols, [&](auto d, int64_t i, auto sum)
                         HWY_ATTR { return hn::MulAdd(hn::LoadU(d, dy + i), hn::LoadU(d, y + i), sum); }) /
      float(cols);
  for_each_vector(0, cols, [&](auto d, int64_t i) HWY_ATTR {
    const auto centred = hn::Sub(hn::LoadU(d, dy + i), hn::Set(d, mean));
    const auto g = hn::NegMulAdd(hn::LoadU(d, y + i), hn::Set(d, along_y), centred);
    hn::StoreU(hn::MulAdd(g, hn::Set(d, r), hn::LoadU(d, dx + i)), d, dx + i);
  });
}

void layer_forward_rows(int64_t begin, int64_t end, int64_t cols, const float* x, float eps, float* y,
                        float* rstd) {
  for (int64_t row = begin; row < end; ++row)
    layer_forward_row(cols, x + row * cols, eps, y + row * cols, rstd == nullptr ? nullptr : rstd + row);
}

void layer_backward_rows(int64_t begin, int64_t end, int64_t cols, const float* y, const float* rstd,
                         const float* dy, float* dx) {
  for (int64_t row = begin; row < end; ++row)
    layer_backward_row(cols, y + row * cols, rstd[row], dy + row * cols, dx + row * cols);
}

void affine_forward_rows(int64_t begin, int64_t end, int64_t cols, int64_t parts, const float* x,
                         const float* weight, const float* bias, float eps, float* y, float* moments) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x_row = x + row * cols;
    const float *w = weight + row % parts * cols, *b = bias + row % parts * cols;
    const Moments m = moments_of(cols, x_row, eps);
    for_each_vector(0, cols, [&](auto d, int64_t i) HWY_ATTR {
      const auto scaled = hn::MulAdd(normalised(d, x_row, i, m), hn::LoadU(d, w + i), hn::LoadU(d, b + i));
      hn::StoreU(scaled, d, y + row * cols + i);
    });
    if (moments != nullptr) moments[2 * row] = m.mean, moments[2 * row + 1] = m.rstd;
  }
}

void affine_backward_rows(int64_t begin, int64_t end, int64_t cols, int64_t parts, const float* x,
                          const float* weight, const float* moments, const float* dy, float* dx) {
  for (int64_t row = begin; row < end; ++row) {
    const float *x_row = x + row * cols, *dy_row = dy + row * cols, *w = weight + row % parts * cols;
    float* dx_row = dx + row * cols;
    const Moments m{moments[2 * row], moments[2 * row + 1]};
    const float mean = sum_over(cols,
                                [&](auto d, int64_t i, auto sum) HWY_ATTR {
                                  return hn::MulAdd(hn::LoadU(d, dy_row + i), hn::LoadU(d, w + i), sum);
                                }) /
                       float(cols);
    const float along_x = sum_over(cols,
                                   [&](auto d, int64_t i, auto sum) HWY_ATTR {
                                     const auto g = hn::Mul(hn::LoadU(d, dy_row + i), hn::LoadU(d, w + i));
                                     return hn::MulAdd(g, normalised(d, x_row, i, m), sum);
                                   }) /
                          float(cols);
    for_each_vector(0, cols, [&](auto d, int64_t i) HWY_ATTR {
      const auto g = hn::Mul(hn::LoadU(d, dy_row + i), hn::LoadU(d, w + i));
      const auto centred = hn::Sub(g, hn::Set(d, mean));
      const auto across = hn::NegMulAdd(normalised(d, x_row, i, m), hn::Set(d, along_x), centred);
      hn::StoreU(hn::MulAdd(across, hn::Set(d, m.rstd), hn::LoadU(d, dx_row + i)), d, dx_row + i);
    });
  }
}

// Columns [begin, end) of the parts side by side: a line of x holds the rows of all parts.
void affine_backward_weight(int64_t begin, int64_t end, int64_t rows, int64_t cols, int64_t parts,
                            const float* x, const float* moments, const float* dy, float* dweight,
                            float* dbias) {
  for (int64_t first = 0; first < rows; first += parts) {
    const float *x_line = x + first * cols, *dy_line = dy + first * cols;
    for (int64_t part = begin / cols; part * cols < end; ++part) {
      const Moments m{moments[2 * (first + part)], moments[2 * (first + part) + 1]};
      for_each_vector(
          std::max(begin, part * cols), std::min(end, (part + 1) * cols), [&](auto d, int64_t i) HWY_ATTR {
            const auto g = hn::LoadU(d, dy_line + i);
            hn::StoreU(hn::MulAdd(g, normalised(d, x_line, i, m), hn::LoadU(d, dweight + i)), d, dweight + i);
            hn::StoreU(hn::Add(g, hn::LoadU(d, dbias + i)), d, dbias + i);
          });
    }
  }
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(rms_forward_rows);
HWY_EXPORT(rms_backward_rows);
HWY_EXPORT(rms_backward_weight);
HWY_EXPORT(layer_forward_rows);
HWY_EXPORT(layer_backward_rows);
HWY_EXPORT(affine_forward_rows);
HWY_EXPORT(affine_backward_rows);
HWY_EXPORT(affine_backward_weight);

void rms_norm_forward(int64_t rows, int64_t cols, const float* x, const float* weight, float eps, float* y,
                      float* rstd) {
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(rms_forward_rows)(begin, end, cols, x, weight, eps, y, rstd);
  });
}

void rms_norm_backward(int64_t rows, int64_t cols, const float* x, const float* weight, const float* rstd,
                       const float* dy, float* dx, float* dweight) {
  if (dweight != nullptr) {
    parallel_columns(rows, cols, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(rms_backward_weight)(begin, end, rows, cols, x, rstd, dy, dweight);
    });
  }
  if (dx != nullptr) {
    parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(rms_backward_rows)(begin, end, cols, x, weight, rstd, dy, dx);
    });
  }
}

void layer_norm_forward(int64_t rows, int64_t cols, const float* x, float eps, float* y, float* rstd) {
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(layer_forward_rows)(begin, end, cols, x, eps, y, rstd);
  });
}

void layer_norm_backward(int64_t rows, int64_t cols, const float* y, const float* rstd, const float* dy,
                         float* dx) {
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(layer_backward_rows)(begin, end, cols, y, rstd, dy, dx);
  });
}

void affine_layer_norm_forward(int64_t rows, int64_t cols, int64_t parts, const float* x, const float* weight,
                               const float* bias, float eps, float* y, float* moments) {
  BROOD_ASSERT(rows % parts == 0);
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(affine_forward_rows)(begin, end, cols, parts, x, weight, bias, eps, y, moments);
  });
}

void affine_layer_norm_backward(int64_t rows, int64_t cols, int64_t parts, const float* x,
                                const float* weight, const float* moments, const float* dy, float* dx,
                                float* dweight, float* dbias) {
  BROOD_ASSERT(rows % parts == 0);
  parallel_columns(rows / parts, parts * cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(affine_backward_weight)
    (begin, end, rows, cols, parts, x, moments, dy, dweight, dbias);
  });
  if (dx == nullptr) return;
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(affine_backward_rows)(begin, end, cols, parts, x, weight, moments, dy, dx);
  });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
