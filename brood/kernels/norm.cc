#include "brood/kernels/norm.h"

#include <cmath>

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

void layer_forward_row(int64_t cols, const float* x, float eps, float* y, float* rstd) {
  const float mean = sum_over(cols, [&](auto d, int64_t i, auto sum)
                                        HWY_ATTR { return hn::Add(sum, hn::LoadU(d, x + i)); }) /
                     float(cols);
  const float squares = sum_over(cols, [&](auto d, int64_t i, auto sum) HWY_ATTR {
    const auto v = hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean));
    return hn::MulAdd(v, v, sum);
  });
  const float r = 1.0f / std::sqrt(squares / float(cols) + eps);
  for_each_vector(0, cols, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean)), hn::Set(d, r)), d, y + i);
  });
  if (rstd != nullptr) *rstd = r;
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

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(rms_forward_rows);
HWY_EXPORT(rms_backward_rows);
HWY_EXPORT(rms_backward_weight);
HWY_EXPORT(layer_forward_rows);
HWY_EXPORT(layer_backward_rows);

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

}  // namespace brood::kernels
#endif  // HWY_ONCE
