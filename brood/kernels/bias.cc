#include "brood/kernels/bias.h"

#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/bias.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

void add_row_range(int64_t begin, int64_t end, int64_t cols, const float* row, float* y) {
  for (int64_t r = begin; r < end; ++r)
    for_each_vector(0, cols, [&](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, y + r * cols + i), hn::LoadU(d, row + i)), d, y + r * cols + i);
    });
}

// Columns [begin, end).
void sum_rows_range(int64_t begin, int64_t end, int64_t rows, int64_t cols, const float* x, float* total) {
  for (int64_t r = 0; r < rows; ++r)
    for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, total + i), hn::LoadU(d, x + r * cols + i)), d, total + i);
    });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(add_row_range);
HWY_EXPORT(sum_rows_range);

void add_row(int64_t rows, int64_t cols, const float* row, float* y) {
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(add_row_range)(begin, end, cols, row, y);
  });
}

void sum_rows(int64_t rows, int64_t cols, const float* x, float* total) {
  parallel_columns(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(sum_rows_range)(begin, end, rows, cols, x, total);
  });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
