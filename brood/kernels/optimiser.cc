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

#include "brood/kernels/vector_loop-inl.h"

#ifndef BROOD_KERNELS_OPTIMISER_RIDING
#define BROOD_KERNELS_OPTIMISER_RIDING
namespace brood::kernels {
namespace {

// One linear layer on its way back, as all targets see it.
struct Riding {
  int64_t T, out, in;
  const float* dy;
  const float* x;
  float* w;
  float* m;  // null for plain descent
  float* v;
};

}  // namespace
}  // namespace brood::kernels
#endif  // BROOD_KERNELS_OPTIMISER_RIDING

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

// a / (sqrt(b) + eps) for b >= 0. Division and root take some 35 cycles a vector with AVX-512; its estimates
// (14 bits) with one Newton step each take a third and are off by 3 ulp at most.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V over_root(D d, V a, V b, V eps) {
#if HWY_TARGET == HWY_AVX3
  const V half = hn::Set(d, 0.5f);
  const V x = hn::Max(hn::Set(d, 1.17549435e-38f), b);  // 1/0 is out of the estimate's reach; passes NaN on
  const V r = hn::ApproximateReciprocalSqrt(x);
  const V h = hn::Mul(hn::Mul(x, r), half);
  const V root = hn::Mul(hn::Mul(x, r), hn::NegMulAdd(h, r, hn::Set(d, 1.5f)));
  const V bottom = hn::Add(root, eps);
  const V q = hn::ApproximateReciprocal(bottom);
  return hn::Mul(a, hn::Mul(q, hn::NegMulAdd(bottom, q, hn::Set(d, 2.0f))));
#else
  (void)d;
  return hn::Div(a, hn::Add(hn::Sqrt(b), eps));
#endif
}

// One vector of Adam: m and v in place; returns the new w.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V adamw_vector(D d, const AdamW& step, V g, V w, float* m, float* v) {
  const V old_m = hn::LoadU(d, m);
  const V old_v = hn::LoadU(d, v);
  const V new_m = hn::MulAdd(hn::Set(d, 1.0f - step.beta1), hn::Sub(g, old_m), old_m);
  const V new_v = hn::MulAdd(hn::Set(d, 1.0f - step.beta2), hn::MulSub(g, g, old_v), old_v);
  hn::StoreU(new_m, d, m);
  hn::StoreU(new_v, d, v);
  const V direction = over_root(d, hn::Mul(new_m, hn::Set(d, step.correct1)),
                                hn::Mul(new_v, hn::Set(d, step.correct2)), hn::Set(d, step.eps));
  return hn::NegMulAdd(hn::Set(d, step.lr), direction, hn::Mul(w, hn::Set(d, 1.0f - step.lr * step.decay)));
}

void adamw_range(int64_t begin, int64_t end, const AdamW& step, const float* g, float grad_scale, float* w,
                 float* m, float* v) {
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

// ---- The update that rides in the backward pass
// -------------------------------------------------------------------
//
// kRows rows of W are taken together, a vector of columns at a time: each of W's vectors is read once,
// multiplied into dx for every step, updated and written back. dx is read and written once per kRows rows and
// stays in the L1 cache.

constexpr int64_t kRows = HWY_TARGET == HWY_AVX3 ? 8 : 4;  // twice as many registers with AVX-512

// Adds dy·W of rows [row, row + count) to partial [T, in] unless that is null, and updates those rows. Steps
// is T where known at compile time, else 0; Rows likewise.
template <int64_t kSteps, int64_t kCount, class Update>
HWY_INLINE void ride_rows(const Riding& riding, int64_t row, float* partial, const Update& update) {
  const int64_t steps = kSteps != 0 ? kSteps : riding.T;
  const int64_t in = riding.in;
  const float* dy = riding.dy + row;
  for_each_vector(0, in, [&](auto d, int64_t i) HWY_ATTR {
    using V = hn::Vec<decltype(d)>;
    float* w = riding.w + row * in + i;
    V old[kCount];
    V gradient[kCount];
    for (int64_t r = 0; r < kCount; ++r) {
      old[r] = hn::LoadU(d, w + r * in);
      gradient[r] = hn::Zero(d);
    }
    for (int64_t t = 0; t < steps; ++t) {
      const V x = hn::LoadU(d, riding.x + t * in + i);
      const float* dy_t = dy + t * riding.out;
      for (int64_t r = 0; r < kCount; ++r) gradient[r] = hn::MulAdd(hn::Set(d, dy_t[r]), x, gradient[r]);
      if (partial == nullptr) continue;
      V dx = hn::LoadU(d, partial + t * in + i);
      for (int64_t r = 0; r < kCount; ++r) dx = hn::MulAdd(hn::Set(d, dy_t[r]), old[r], dx);
      hn::StoreU(dx, d, partial + t * in + i);
    }
    for (int64_t r = 0; r < kCount; ++r)
      hn::StoreU(update(d, gradient[r], old[r], (row + r) * in + i), d, w + r * in);
  });
}

template <int64_t kSteps, class Update>
HWY_INLINE void ride_block(int64_t begin, int64_t end, const Riding& riding, float* partial,
                           const Update& update) {
  if (partial != nullptr) std::fill(partial, partial + riding.T * riding.in, 0.0f);
  int64_t row = begin;
  for (; row + kRows <= end; row += kRows) ride_rows<kSteps, kRows>(riding, row, partial, update);
  for (; row < end; ++row) ride_rows<kSteps, 1>(riding, row, partial, update);
}

void ride_sgd(int64_t begin, int64_t end, const Riding& riding, float rate, float keep, float* partial) {
  const auto update = [&](auto d, auto g, auto w, int64_t) HWY_ATTR {
    return hn::NegMulAdd(g, hn::Set(d, rate), hn::Mul(w, hn::Set(d, keep)));
  };
  if (riding.T == 1)
    ride_block<1>(begin, end, riding, partial, update);
  else
    ride_block<0>(begin, end, riding, partial, update);
}

void ride_adamw(int64_t begin, int64_t end, const Riding& riding, const AdamW& step, float* partial) {
  const auto update = [&](auto d, auto g, auto w, int64_t at)
                          HWY_ATTR { return adamw_vector(d, step, g, w, riding.m + at, riding.v + at); };
  if (riding.T == 1)
    ride_block<1>(begin, end, riding, partial, update);
  else
    ride_block<0>(begin, end, riding, partial, update);
}

// Numbers [begin, end) of dx (+)= the sum of `blocks` partial sums of n numbers each, in order.
void sum_partials(int64_t begin, int64_t end, int64_t n, int64_t blocks, const float* partials,
                  bool accumulate, float* dx) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    auto sum = accumulate ? hn::LoadU(d, dx + i) : hn::Zero(d);
    for (int64_t block = 0; block < blocks; ++block)
      sum = hn::Add(sum, hn::LoadU(d, partials + block * n + i));
    hn::StoreU(sum, d, dx + i);
  });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(adamw_range);
HWY_EXPORT(sgd_range);
HWY_EXPORT(squares_range);
HWY_EXPORT(ride_sgd);
HWY_EXPORT(ride_adamw);
HWY_EXPORT(sum_partials);

namespace {

constexpr int64_t kMostSteps = 8;
constexpr int64_t kMostBlocks = 16;

// Rows of W are cut in two from 256 kB on, where a second thread begins to pay, and into more from 1 MB on.
// Numbers of blocks are even, so that two threads cut every matrix in the middle, as the forward product
// does: each half then stays in its thread's L2 cache from step to step.
int64_t blocks_of(int64_t out, int64_t in) {
  const int64_t weights = out * in;
  if (weights < 65536 || out < 2) return 1;
  return std::min({out, kMostBlocks, std::max<int64_t>(2, weights / 131072 * 2)});
}

// update(begin, end, partial) on each block of rows of W, then the sum of the partial sums into dx.
template <class Update>
void ride(const Riding& riding, float* dx, bool accumulate, float* scratch, const Update& update) {
  BROOD_ASSERT(riding.T >= 1 && riding.T <= kMostSteps);
  const int64_t blocks = blocks_of(riding.out, riding.in);
  const int64_t n = riding.T * riding.in;
  parallel(blocks, [&](int64_t block) {
    float* partial = dx == nullptr ? nullptr : scratch + block * n;
    update(riding.out * block / blocks, riding.out * (block + 1) / blocks, partial);
  });
  if (dx == nullptr) return;
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(sum_partials)(begin, end, n, blocks, scratch, accumulate, dx);
  });
}

}  // namespace

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

int64_t linear_backward_scratch(int64_t T, int64_t out, int64_t in) { return blocks_of(out, in) * T * in; }

void linear_backward_sgd(int64_t T, int64_t out, int64_t in, const float* dy, const float* x, float lr,
                         float decay, float* w, float* dx, bool accumulate, float* scratch) {
  const Riding riding{T, out, in, dy, x, w, nullptr, nullptr};
  ride(riding, dx, accumulate, scratch, [&](int64_t begin, int64_t end, float* partial) {
    HWY_DYNAMIC_DISPATCH(ride_sgd)(begin, end, riding, lr, 1.0f - lr * decay, partial);
  });
}

void linear_backward_adamw(int64_t T, int64_t out, int64_t in, const float* dy, const float* x,
                           const AdamW& step, float* w, float* m, float* v, float* dx, bool accumulate,
                           float* scratch) {
  const Riding riding{T, out, in, dy, x, w, m, v};
  ride(riding, dx, accumulate, scratch, [&](int64_t begin, int64_t end, float* partial) {
    HWY_DYNAMIC_DISPATCH(ride_adamw)(begin, end, riding, step, partial);
  });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
