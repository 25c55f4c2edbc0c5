#include "brood/kernels/lerp.h"

#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/lerp.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

// share_stride: from the share of one row to that of the next; 0 when it is the same.
void lerp_rows(int64_t begin, int64_t end, int64_t cols, const float* x, const float* z, const float* share,
               int64_t share_stride, float* y) {
  for (int64_t r = begin; r < end; ++r) {
    const float* s = share + r * share_stride;
    for_each_vector(0, cols, [&](auto d, int64_t c) HWY_ATTR {
      const int64_t i = r * cols + c;
      const auto from = hn::LoadU(d, x + i);
      hn::StoreU(hn::MulAdd(hn::Sub(hn::LoadU(d, z + i), from), hn::LoadU(d, s + c), from), d, y + i);
    });
  }
}

// dx, dz: null where not wanted.
void lerp_backward_rows(int64_t begin, int64_t end, int64_t cols, const float* share, int64_t share_stride,
                        const float* dy, float* dx, float* dz) {
  for (int64_t r = begin; r < end; ++r) {
    const float* s = share + r * share_stride;
    for_each_vector(0, cols, [&](auto d, int64_t c) HWY_ATTR {
      const int64_t i = r * cols + c;
      const auto g = hn::LoadU(d, dy + i), part = hn::LoadU(d, s + c);
      if (dx) hn::StoreU(hn::Add(hn::NegMulAdd(g, part, g), hn::LoadU(d, dx + i)), d, dx + i);
      if (dz) hn::StoreU(hn::MulAdd(g, part, hn::LoadU(d, dz + i)), d, dz + i);
    });
  }
}

// Columns [begin, end) of all rows. dshare_stride as share_stride.
void lerp_backward_share(int64_t begin, int64_t end, int64_t rows, int64_t cols, const float* x,
                         const float* z, const float* dy, float* dshare, int64_t dshare_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    float* ds = dshare + r * dshare_stride;
    for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
      const int64_t i = r * cols + c;
      const auto step = hn::Sub(hn::LoadU(d, z + i), hn::LoadU(d, x + i));
      hn::StoreU(hn::MulAdd(hn::LoadU(d, dy + i), step, hn::LoadU(d, ds + c)), d, ds + c);
    });
  }
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(lerp_rows);
HWY_EXPORT(lerp_backward_rows);
HWY_EXPORT(lerp_backward_share);

void lerp(int64_t rows, int64_t cols, const float* x, const float* z, const float* share, bool own,
          float* y) {
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(lerp_rows)(begin, end, cols, x, z, share, own ? cols : 0, y);
  });
}

void lerp_backward(int64_t rows, int64_t cols, const float* x, const float* z, const float* share, bool own,
                   const float* dy, float* dx, float* dz, float* dshare) {
  const int64_t stride = own ? cols : 0;
  if (dx != nullptr || dz != nullptr)
    parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(lerp_backward_rows)(begin, end, cols, share, stride, dy, dx, dz);
    });
  if (dshare != nullptr)
    parallel_columns(rows, cols, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(lerp_backward_share)(begin, end, rows, cols, x, z, dy, dshare, stride);
    });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
