// Of activation.h: sums and products of arrays and of rows, and dropout.
#include "brood/base/error.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/arithmetic.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

// Every function works on [begin, end) of arrays given from their start.

void add_range(int64_t begin, int64_t end, const float* a, const float* b, float* y) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i);
  });
}

void scale_range(int64_t begin, int64_t end, float factor, float* x) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, factor)), d, x + i);
  });
}

void add_scaled_range(int64_t begin, int64_t end, float factor, const float* x, float* y) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::Set(d, factor), hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  });
}

void mul_range(int64_t begin, int64_t end, const float* a, const float* b, float* y) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i);
  });
}

// y += a∘b
void mul_add_range(int64_t begin, int64_t end, const float* a, const float* b, float* y) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), hn::LoadU(d, y + i)), d, y + i);
  });
}

void scale_rows_range(int64_t begin, int64_t end, int64_t cols, const float* x, const float* factor,
                      float* y) {
  for (int64_t r = begin; r < end; ++r)
    for_each_vector(0, cols, [&](auto d, int64_t c) HWY_ATTR {
      hn::StoreU(hn::Mul(hn::Set(d, factor[r]), hn::LoadU(d, x + r * cols + c)), d, y + r * cols + c);
    });
}

void add_scaled_rows_range(int64_t begin, int64_t end, int64_t cols, const float* x, const float* factor,
                           float* y) {
  for (int64_t r = begin; r < end; ++r) add_scaled_range(0, cols, factor[r], x + r * cols, y + r * cols);
}

// With accumulate y[r] += the product, else y[r] = it.
void dot_rows_range(int64_t begin, int64_t end, int64_t cols, const float* a, const float* b, bool accumulate,
                    float* y) {
  for (int64_t r = begin; r < end; ++r) {
    const float *a_row = a + r * cols, *b_row = b + r * cols;
    const float product = sum_over(cols, [&](auto d, int64_t c, auto sum) HWY_ATTR {
      return hn::MulAdd(hn::LoadU(d, a_row + c), hn::LoadU(d, b_row + c), sum);
    });
    y[r] = accumulate ? y[r] + product : product;
  }
}

// The finaliser of MurmurHash3 (Appleby 2011): every bit of x moves every bit of the result.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V scramble(D d, V x) {
  x = hn::Xor(x, hn::ShiftRight<16>(x));
  x = hn::Mul(x, hn::Set(d, 0x85ebca6bu));
  x = hn::Xor(x, hn::ShiftRight<13>(x));
  x = hn::Mul(x, hn::Set(d, 0xc2b2ae35u));
  return hn::Xor(x, hn::ShiftRight<16>(x));
}

// keys: two words that depend on the seed and the upper half of i, the same for all of [begin, end).
void dropout_range(int64_t begin, int64_t end, uint32_t key0, uint32_t key1, uint32_t dropped_below,
                   float scale, const float* x, float* y) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const hn::RebindToUnsigned<decltype(d)> du;
    const auto position = hn::Iota(du, uint32_t(i));
    const auto hash =
        scramble(du, hn::Add(scramble(du, hn::Xor(position, hn::Set(du, key0))), hn::Set(du, key1)));
    const auto dropped = hn::RebindMask(d, hn::Lt(hash, hn::Set(du, dropped_below)));
    hn::StoreU(hn::IfThenZeroElse(dropped, hn::Mul(hn::LoadU(d, x + i), hn::Set(d, scale))), d, y + i);
  });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(add_range);
HWY_EXPORT(scale_range);
HWY_EXPORT(add_scaled_range);
HWY_EXPORT(mul_range);
HWY_EXPORT(mul_add_range);
HWY_EXPORT(scale_rows_range);
HWY_EXPORT(add_scaled_rows_range);
HWY_EXPORT(dot_rows_range);
HWY_EXPORT(dropout_range);

namespace {

// Steele, Lea and Flood 2014 (splitmix64).
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

void add(int64_t n, const float* a, const float* b, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(add_range)(begin, end, a, b, y);
  });
}

void add_to(int64_t n, const float* x, float* y) { add(n, x, y, y); }

void scale(int64_t n, float factor, float* x) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(scale_range)(begin, end, factor, x);
  });
}

void add_scaled(int64_t n, float factor, const float* x, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(add_scaled_range)(begin, end, factor, x, y);
  });
}

void mul(int64_t n, const float* a, const float* b, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(mul_range)(begin, end, a, b, y);
  });
}

void mul_backward(int64_t n, const float* a, const float* b, const float* dy, float* da, float* db) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    if (da != nullptr) HWY_DYNAMIC_DISPATCH(mul_add_range)(begin, end, dy, b, da);
    if (db != nullptr) HWY_DYNAMIC_DISPATCH(mul_add_range)(begin, end, dy, a, db);
  });
}

void scale_rows(int64_t rows, int64_t cols, const float* x, const float* factor, float* y) {
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(scale_rows_range)(begin, end, cols, x, factor, y);
  });
}

void scale_rows_backward(int64_t rows, int64_t cols, const float* x, const float* factor, const float* dy,
                         float* dx, float* dfactor) {
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    if (dx != nullptr) HWY_DYNAMIC_DISPATCH(add_scaled_rows_range)(begin, end, cols, dy, factor, dx);
    if (dfactor != nullptr) HWY_DYNAMIC_DISPATCH(dot_rows_range)(begin, end, cols, dy, x, true, dfactor);
  });
}

void add_scaled_rows(int64_t rows, int64_t cols, const float* x, const float* factor, float* y) {
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(add_scaled_rows_range)(begin, end, cols, x, factor, y);
  });
}

void dot_rows(int64_t rows, int64_t cols, const float* a, const float* b, float* y) {
  parallel_rows(rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(dot_rows_range)(begin, end, cols, a, b, false, y);
  });
}

void dropout(int64_t n, uint64_t seed, float rate, const float* x, float* y) {
  BROOD_ASSERT(rate >= 0.0f && rate < 1.0f);
  const auto dropped_below = uint32_t(double(rate) * 0x1p32);
  const float scale = 1.0f / (1.0f - rate);
  // kBlock divides 2^32, so the upper half of i is the same throughout a block.
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    const uint64_t key = mix(mix(seed) + (uint64_t(begin) >> 32));
    HWY_DYNAMIC_DISPATCH(dropout_range)
    (begin, end, uint32_t(key), uint32_t(key >> 32), dropped_below, scale, x, y);
  });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
