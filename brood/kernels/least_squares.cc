#include "brood/kernels/least_squares.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/least_squares.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_HAVE_FLOAT64
using Whole = hn::ScalableTag<double>;
using One = hn::CappedTag<double, 1>;

template <class Body>
HWY_INLINE void walk(int64_t n, const Body& body) {
  const Whole d;
  const One one;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(d, i);
  for (; i < n; ++i) body(one, i);
}

HWY_INLINE double dot_row(int64_t n, const double* HWY_RESTRICT a, const double* HWY_RESTRICT b) {
  const Whole d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  auto even = hn::Zero(d), odd = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    even = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), even);
    odd = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), odd);
  }
  for (; i + lanes <= n; i += lanes) even = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), even);
  double rest = 0;
  for (; i < n; ++i) rest += a[i] * b[i];
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd))) + rest;
}

HWY_INLINE void add_row(int64_t n, double a, const double* HWY_RESTRICT x, double* HWY_RESTRICT y) {
  walk(n, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::Set(d, a), hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  });
}

// The product of two elements of g, rounded once, is the same whichever comes first; so the matrix stays
// symmetric.
HWY_INLINE void downdate_row(int64_t n, double gi, const double* HWY_RESTRICT g, double scale,
                             double* HWY_RESTRICT row) {
  walk(n, [&](auto d, int64_t j) HWY_ATTR {
    const auto left = hn::NegMulAdd(hn::Set(d, gi), hn::LoadU(d, g + j), hn::LoadU(d, row + j));
    hn::StoreU(hn::Mul(left, hn::Set(d, scale)), d, row + j);
  });
}
#else   // some ARMv7 have no vectors of doubles
HWY_INLINE double dot_row(int64_t n, const double* a, const double* b) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}
HWY_INLINE void add_row(int64_t n, double a, const double* x, double* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}
HWY_INLINE void downdate_row(int64_t n, double gi, const double* g, double scale, double* row) {
  for (int64_t j = 0; j < n; ++j) row[j] = (row[j] - gi * g[j]) * scale;
}
#endif  // HWY_HAVE_FLOAT64

double product(int64_t n, const double* p, const double* z, double* g) {
  for (int64_t i = 0; i < n; ++i) g[i] = dot_row(n, p + i * n, z);
  return dot_row(n, z, g);
}

void downdate(int64_t n, const double* g, double scale, double* p) {
  for (int64_t i = 0; i < n; ++i) downdate_row(n, g[i], g, scale, p + i * n);
}

void update(int64_t n, const double* z, double* p) {
  for (int64_t i = 0; i < n; ++i) add_row(n, z[i], z, p + i * n);
}

double dot_of(int64_t n, const double* a, const double* b) { return dot_row(n, a, b); }
void add_of(int64_t n, double a, const double* x, double* y) { add_row(n, a, x, y); }

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(product);
HWY_EXPORT(downdate);
HWY_EXPORT(update);
HWY_EXPORT(dot_of);
HWY_EXPORT(add_of);

double symmetric_product(int64_t n, const double* p, const double* z, double* g) {
  return HWY_DYNAMIC_DISPATCH(product)(n, p, z, g);
}
void symmetric_downdate(int64_t n, const double* g, double scale, double* p) {
  HWY_DYNAMIC_DISPATCH(downdate)(n, g, scale, p);
}
void symmetric_update(int64_t n, const double* z, double* p) { HWY_DYNAMIC_DISPATCH(update)(n, z, p); }
double dot(int64_t n, const double* a, const double* b) { return HWY_DYNAMIC_DISPATCH(dot_of)(n, a, b); }
void add_scaled(int64_t n, double a, const double* x, double* y) { HWY_DYNAMIC_DISPATCH(add_of)(n, a, x, y); }

}  // namespace brood::kernels
#endif  // HWY_ONCE
