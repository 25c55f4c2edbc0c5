#include "brood/kernels/optimiser.h"

#include <algorithm>
#include <cmath>

#include "brood/base/error.h"
#include "brood/kernels/blocks.h"
#include "brood/kernels/matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/optimiser.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/adamw-inl.h"
#include "brood/kernels/vector_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

void adamw_range(int64_t begin, int64_t end, const AdamW& settings, const float* g, float grad_scale,
                 float* w, float* m, float* v) {
  const AdamStep step(settings);
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto gradient = hn::Mul(hn::LoadU(d, g + i), hn::Set(d, grad_scale));
    hn::StoreU(adamw_vector(d, step, gradient, hn::LoadU(d, w + i), m + i, v + i), d, w + i);
  });
}

void sgd_range(int64_t begin, int64_t end, float rate, float keep, const float* g, float* w) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto kept = hn::Mul(hn::LoadU(d, w + i), hn::Set(d, keep));
    hn::StoreU(hn::NegMulAdd(hn::LoadU(d, g + i), hn::Set(d, rate), kept), d, w + i);
  });
}

double squares_range(int64_t begin, int64_t end, const float* x) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> half;
  const int64_t lanes = int64_t(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  int64_t i = begin;
  for (; i + 2 * lanes <= end; i += 2 * lanes) {
    const auto a = hn::PromoteTo(d, hn::LoadU(half, x + i));
    const auto b = hn::PromoteTo(d, hn::LoadU(half, x + i + lanes));
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  for (; i < end; ++i) sum += double(x[i]) * double(x[i]);
  return sum;
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(adamw_range);
HWY_EXPORT(sgd_range);
HWY_EXPORT(squares_range);

void adamw(int64_t n, const AdamW& step, const float* g, float grad_scale, float* w, float* m, float* v,
           Bf16* copy) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(adamw_range)(begin, end, step, g, grad_scale, w, m, v);
    if (copy != nullptr) convert(end - begin, w + begin, copy + begin);  // w is still in the cache
  });
}

void sgd(int64_t n, float lr, float decay, const float* g, float grad_scale, float* w, Bf16* copy) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(sgd_range)(begin, end, lr * grad_scale, 1.0f - lr * decay, g, w);
    if (copy != nullptr) convert(end - begin, w + begin, copy + begin);
  });
}

double squared_norm(int64_t n, const float* x) {
  constexpr int64_t kMostParts = 64;
  double sums[kMostParts];
  const int64_t parts = std::clamp<int64_t>(n / kBlock, 1, kMostParts);
  parallel(parts, [&](int64_t part) {
    sums[part] = HWY_DYNAMIC_DISPATCH(squares_range)(n * part / parts, n * (part + 1) / parts, x);
  });
  double sum = 0;
  for (int64_t part = 0; part < parts; ++part) sum += sums[part];
  return sum;
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
