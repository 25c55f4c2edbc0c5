#include "brood/kernels/step_size.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/step_size.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"
#include "brood/kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

void softplus_rows(int64_t rows, int64_t cols, const float* x, int64_t ldx, const float* bias, float* y) {
  for (int64_t r = 0; r < rows; ++r, x += ldx, y += cols)
    for_each_vector(0, cols, [&](auto d, int64_t c) HWY_ATTR {
      hn::StoreU(Softplus(d, hn::Add(hn::LoadU(d, x + c), hn::LoadU(d, bias + c))), d, y + c);
    });
}

void softplus_backward_rows(int64_t rows, int64_t cols, const float* x, int64_t ldx, const float* bias,
                            const float* dy, float* dx, float* dbias) {
  for (int64_t r = 0; r < rows; ++r, x += ldx, dy += cols)
    for_each_vector(0, cols, [&](auto d, int64_t c) HWY_ATTR {
      const auto slope = Sigmoid(d, hn::Add(hn::LoadU(d, x + c), hn::LoadU(d, bias + c)));
      const auto g = hn::Mul(hn::LoadU(d, dy + c), slope);
      hn::StoreU(hn::Add(hn::LoadU(d, dbias + c), g), d, dbias + c);
      if (dx) hn::StoreU(hn::Add(hn::LoadU(d, dx + r * ldx + c), g), d, dx + r * ldx + c);
    });
}

void decay_rates_rows(int64_t rows, int64_t cols, const float* x, const float* a_log, float* y) {
  for_each_vector(0, cols, [&](auto d, int64_t c) HWY_ATTR {
    const auto A = hn::Neg(Exp(d, hn::LoadU(d, a_log + c)));
    for (int64_t r = 0; r < rows; ++r)
      hn::StoreU(hn::Mul(A, hn::LoadU(d, x + r * cols + c)), d, y + r * cols + c);
  });
}

void decay_rates_backward_rows(int64_t rows, int64_t cols, const float* y, const float* a_log,
                               const float* dy, float* dx, float* da_log) {
  for_each_vector(0, cols, [&](auto d, int64_t c) HWY_ATTR {
    const auto A = hn::Neg(Exp(d, hn::LoadU(d, a_log + c)));
    auto sum = hn::LoadU(d, da_log + c);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t i = r * cols + c;
      const auto g = hn::LoadU(d, dy + i);
      sum = hn::MulAdd(g, hn::LoadU(d, y + i), sum);
      if (dx) hn::StoreU(hn::MulAdd(A, g, hn::LoadU(d, dx + i)), d, dx + i);
    }
    hn::StoreU(sum, d, da_log + c);
  });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(softplus_rows);
HWY_EXPORT(softplus_backward_rows);
HWY_EXPORT(decay_rates_rows);
HWY_EXPORT(decay_rates_backward_rows);

void softplus(int64_t rows, int64_t cols, const float* x, int64_t ldx, const float* bias, float* y) {
  HWY_DYNAMIC_DISPATCH(softplus_rows)(rows, cols, x, ldx, bias, y);
}

void softplus_backward(int64_t rows, int64_t cols, const float* x, int64_t ldx, const float* bias,
                       const float* dy, float* dx, float* dbias) {
  HWY_DYNAMIC_DISPATCH(softplus_backward_rows)(rows, cols, x, ldx, bias, dy, dx, dbias);
}

void decay_rates(int64_t rows, int64_t cols, const float* x, const float* a_log, float* y) {
  HWY_DYNAMIC_DISPATCH(decay_rates_rows)(rows, cols, x, a_log, y);
}

void decay_rates_backward(int64_t rows, int64_t cols, const float* y, const float* a_log, const float* dy,
                          float* dx, float* da_log) {
  HWY_DYNAMIC_DISPATCH(decay_rates_backward_rows)(rows, cols, y, a_log, dy, dx, da_log);
}

}  // namespace brood::kernels
#endif
