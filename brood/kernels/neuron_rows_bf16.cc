// Rows of bf16. A vector of rows comes as its even and its odd elements, which widen by a shift and by a
// mask; the step, or its sum, is split alike once, when it is taken into registers.
#include <algorithm>

#include "brood/kernels/neuron_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/neuron_rows_bf16.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/neuron_rows-inl.h"
#include "hwy/highway.h"

// Vectors cannot be elements of arrays on scalable targets, so eight pairs of them are named.
#ifndef BROOD_EACH_PAIR
#define BROOD_EACH_PAIR(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

using V = hn::Vec<Tag>;

struct Pair {
  V even, odd;
};

HWY_INLINE Pair Widened(const Bf16* row) {
  const Tag d;
#if HWY_TARGET == HWY_SCALAR
  return {hn::Set(d, to_float(row[0])), hn::Set(d, to_float(row[1]))};
#else
  const hn::RebindToUnsigned<Tag> words;
  const hn::Repartition<uint16_t, Tag> halves;
  const auto both = hn::BitCast(words, hn::LoadU(halves, reinterpret_cast<const uint16_t*>(row)));
  return {hn::BitCast(d, hn::ShiftLeft<16>(both)),
          hn::BitCast(d, hn::And(both, hn::Set(words, 0xffff0000u)))};
#endif
}

HWY_INLINE Pair Split(const float* step) {
  const Tag d;
  Pair pair{hn::Zero(d), hn::Zero(d)};
  hn::LoadInterleaved2(d, step, pair.even, pair.odd);
  return pair;
}

HWY_INLINE V AddProduct(const Pair& a, const Pair& b, V sum) {
  return hn::MulAdd(a.odd, b.odd, hn::MulAdd(a.even, b.even, sum));
}

// ------------------------------------------------------------------------------------------- accumulate

struct AccumulateHalf {
  const RowLists& lists;
  const float* value;
  const Bf16* matrix;
  int64_t stride;
  float* out;
  int64_t out_stride;
  bool prefetch;

  template <int kVectors>
  HWY_INLINE void run(int64_t c) const {
    const Tag d;
    const int64_t pair = 2 * int64_t(hn::Lanes(d));
    Ahead ahead(lists, matrix, stride, c);
    for (int64_t r = 0; r < lists.rows; ++r) {
      ahead.step();
      const uint32_t begin = lists.offset[r], end = lists.offset[r + 1];
      if (begin == end) continue;
      float* sum = out + r * out_stride + c;
#define BROOD_LOAD(i)                  \
  Pair s##i{hn::Zero(d), hn::Zero(d)}; \
  if constexpr (2 * i < kVectors) s##i = Split(sum + i * pair);
      BROOD_EACH_PAIR(BROOD_LOAD)
#undef BROOD_LOAD
      for (uint32_t k = begin; k < end; ++k) {
        const Bf16* row = matrix + int64_t(lists.index[k]) * stride + c;
        if (prefetch && k + kAhead<Bf16> < end)
          Prefetch<kVectors>(matrix + int64_t(lists.index[k + kAhead<Bf16>]) * stride + c);
        const V v = hn::Set(d, value[k]);
#define BROOD_ADD(i)                              \
  if constexpr (2 * i < kVectors) {               \
    const Pair w = Widened(row + i * pair);       \
    s##i.even = hn::MulAdd(v, w.even, s##i.even); \
    s##i.odd = hn::MulAdd(v, w.odd, s##i.odd);    \
  }
        BROOD_EACH_PAIR(BROOD_ADD)
#undef BROOD_ADD
      }
#define BROOD_STORE(i) \
  if constexpr (2 * i < kVectors) hn::StoreInterleaved2(s##i.even, s##i.odd, d, sum + i * pair);
      BROOD_EACH_PAIR(BROOD_STORE)
#undef BROOD_STORE
    }
  }
};

void AccumulateRowsHalf(const RowLists& lists, const float* value, const Bf16* matrix, int64_t stride,
                        int64_t cols, float* out, int64_t out_stride) {
  const bool few = lists.rows <= kFewSteps;
  const AccumulateHalf block{lists, value, matrix, stride, out, out_stride, few};
  OverColumns<2>(cols, true, block, [&](int64_t first) {
    for (int64_t r = 0; r < lists.rows; ++r)
      for (uint32_t k = lists.offset[r]; k < lists.offset[r + 1]; ++k)
        for (int64_t c = first; c < cols; ++c)
          out[r * out_stride + c] += value[k] * to_float(matrix[lists.index[k] * stride + c]);
  });
}

// ------------------------------------------------------------------------------------------- dot

struct DotHalf {
  const RowLists& lists;
  const Bf16* matrix;
  int64_t stride;
  const float* steps;
  int64_t steps_stride;
  bool prefetch;
  float* out;

  template <int kVectors>
  HWY_INLINE void run(int64_t c) const {
    const Tag d;
    const int64_t pair = 2 * int64_t(hn::Lanes(d));
    HWY_ALIGN float sums[4];
    Ahead ahead(lists, matrix, stride, c);
    for (int64_t r = 0; r < lists.rows; ++r) {
      ahead.step();
      const uint32_t begin = lists.offset[r], end = lists.offset[r + 1];
      if (begin == end) continue;
      const float* step = steps + r * steps_stride + c;
#define BROOD_LOAD(i)                  \
  Pair t##i{hn::Zero(d), hn::Zero(d)}; \
  if constexpr (2 * i < kVectors) t##i = Split(step + i * pair);
      BROOD_EACH_PAIR(BROOD_LOAD)
#undef BROOD_LOAD
      const auto row = [&](uint32_t k) { return matrix + int64_t(lists.index[k]) * stride + c; };
      uint32_t k = begin;
      for (; k + 2 < end; k += 4) {
        const uint32_t last = end - 1;  // a group of three repeats its last row
        const Bf16 *w0 = row(k), *w1 = row(k + 1), *w2 = row(k + 2), *w3 = row(std::min(k + 3, last));
        if (prefetch)
          for (uint32_t p = k + 8; p < std::min(k + 12, end); ++p) Prefetch<kVectors>(row(p));
        V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
#define BROOD_ADD(i)                                   \
  if constexpr (2 * i < kVectors) {                    \
    s0 = AddProduct(t##i, Widened(w0 + i * pair), s0); \
    s1 = AddProduct(t##i, Widened(w1 + i * pair), s1); \
    s2 = AddProduct(t##i, Widened(w2 + i * pair), s2); \
    s3 = AddProduct(t##i, Widened(w3 + i * pair), s3); \
  }
        BROOD_EACH_PAIR(BROOD_ADD)
#undef BROOD_ADD
        SumFour(s0, s1, s2, s3, sums);
        Deliver(sums, std::min<int64_t>(4, end - k), c > 0, out + k);
      }
      if (k >= end) continue;
      // One or two are left.
      const Bf16 *w0 = row(k), *w1 = row(end - 1);
      V s0 = hn::Zero(d), s1 = s0;
#define BROOD_ADD(i)                                   \
  if constexpr (2 * i < kVectors) {                    \
    s0 = AddProduct(t##i, Widened(w0 + i * pair), s0); \
    s1 = AddProduct(t##i, Widened(w1 + i * pair), s1); \
  }
      BROOD_EACH_PAIR(BROOD_ADD)
#undef BROOD_ADD
      SumFour(s0, s1, s0, s1, sums);
      Deliver(sums, k + 1 < end ? 2 : 1, c > 0, out + k);
    }
  }
};

void DotRowsHalf(const RowLists& lists, const Bf16* matrix, int64_t stride, int64_t cols, const float* steps,
                 int64_t steps_stride, float* out) {
  const bool few = lists.rows <= kFewSteps;
  const DotHalf block{lists, matrix, stride, steps, steps_stride, few, out};
  OverColumns<2>(cols, true, block, [&](int64_t first) {
    for (int64_t r = 0; r < lists.rows; ++r) {
      for (uint32_t k = lists.offset[r]; k < lists.offset[r + 1]; ++k) {
        float sum = first > 0 ? out[k] : 0.0f;
        for (int64_t c = first; c < cols; ++c)
          sum += steps[r * steps_stride + c] * to_float(matrix[lists.index[k] * stride + c]);
        out[k] = sum;
      }
    }
  });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(AccumulateRowsHalf);
HWY_EXPORT(DotRowsHalf);

void accumulate_rows(const RowLists& lists, const float* value, const Bf16* matrix, int64_t stride,
                     int64_t cols, float* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(AccumulateRowsHalf)(lists, value, matrix, stride, cols, out, out_stride);
}

void dot_rows(const RowLists& lists, const Bf16* matrix, int64_t stride, int64_t cols, const float* steps,
              int64_t steps_stride, float* out) {
  HWY_DYNAMIC_DISPATCH(DotRowsHalf)(lists, matrix, stride, cols, steps, steps_stride, out);
}

}  // namespace brood::kernels
#endif
