#include "brood/kernels/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "brood/base/error.h"
#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/loss.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"
#include "brood/kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

float largest(int64_t n, const float* x) {
  const WholeVector d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  float top = -std::numeric_limits<float>::infinity();
  int64_t i = 0;
  if (n >= lanes) {
    auto tops = hn::LoadU(d, x);
    for (i = lanes; i + lanes <= n; i += lanes) tops = hn::Max(tops, hn::LoadU(d, x + i));
    top = hn::GetLane(hn::MaxOfLanes(d, tops));
  }
  for (; i < n; ++i) top = std::max(top, x[i]);
  return top;
}

float log_sum_exp(int64_t n, const float* x) {
  const float top = largest(n, x);
  const float sum = sum_over(n, [&](auto d, int64_t i, auto partial) HWY_ATTR {
    return hn::Add(partial, Exp(d, hn::Sub(hn::LoadU(d, x + i), hn::Set(d, top))));
  });
  return top + std::log(sum);
}

void forward_rows(int64_t begin, int64_t end, int64_t classes, const float* logits, const int32_t* targets,
                  float* loss, float* log_sum) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = logits + row * classes;
    const float sum = log_sum_exp(classes, x);
    loss[row] = targets[row] < 0 ? 0.0f : sum - x[targets[row]];
    if (log_sum != nullptr) log_sum[row] = sum;
  }
}

void backward_row(int64_t classes, const float* logits, int32_t target, float log_sum, float scale,
                  float* dlogits) {
  const float at_target = logits[target];  // dlogits may be the same memory
  for_each_vector(0, classes, [&](auto d, int64_t i) HWY_ATTR {
    const auto softmax = Exp(d, hn::Sub(hn::LoadU(d, logits + i), hn::Set(d, log_sum)));
    hn::StoreU(hn::Mul(softmax, hn::Set(d, scale)), d, dlogits + i);
  });
  // softmax − 1 where it is near 1 keeps its digits only as the exponential's difference from 1.
  dlogits[target] = std::expm1(at_target - log_sum) * scale;
}

void backward_rows(int64_t begin, int64_t end, int64_t classes, const float* logits, const int32_t* targets,
                   const float* log_sum, const float* scale, float* dlogits) {
  for (int64_t row = begin; row < end; ++row) {
    float* dx = dlogits + row * classes;
    if (targets[row] < 0)
      std::fill(dx, dx + classes, 0.0f);
    else
      backward_row(classes, logits + row * classes, targets[row], log_sum[row], scale[row], dx);
  }
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(forward_rows);
HWY_EXPORT(backward_rows);

void cross_entropy_forward(int64_t rows, int64_t classes, const float* logits, const int32_t* targets,
                           float* loss, float* log_sum) {
  for (int64_t row = 0; row < rows; ++row) BROOD_ASSERT(targets[row] >= -1 && targets[row] < classes);
  parallel_rows(rows, classes, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(forward_rows)(begin, end, classes, logits, targets, loss, log_sum);
  });
}

void cross_entropy_backward(int64_t rows, int64_t classes, const float* logits, const int32_t* targets,
                            const float* log_sum, const float* scale, float* dlogits) {
  parallel_rows(rows, classes, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(backward_rows)(begin, end, classes, logits, targets, log_sum, scale, dlogits);
  });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
