// The columns are walked in blocks of V vectors: a block of the step (or of its sum) stays in registers while
// the rows of the list stream past. With 512-bit vectors one block is 256 columns. A tile of 64 such rows (64
// KB) lies in L2; reading it from there beats shorter blocks of a copy in L1, whose lists are walked twice
// and whose steps come in halves, by 10 to 30 % at the shares awake that matter.
//
// Rows are f32 or, where they are only read, bf16: a vector of these comes as its even and its odd elements, which
// widen by a shift and by a mask; the step, or its sum, is split alike once, when it is taken into registers.
#include "brood/kernels/neuron_rows.h"

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/neuron_rows.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/neuron_rows-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

using Vec = hn::Vec<Tag>;

// What one load of a row gives.
struct Plain {
  Vec all;
};
struct Split {
  Vec even, odd;
};
template <class T>
using Cell = std::conditional_t<std::is_same_v<T, float>, Plain, Split>;
template <class T>
constexpr int kVectors = sizeof(Cell<T>) / sizeof(Vec);

HWY_INLINE Plain FromRow(const float* row) { return {hn::LoadU(Tag(), row)}; }
HWY_INLINE Split FromRow(const Bf16* row) {
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

// A step, or its sum, as rows come.
HWY_INLINE void Take(const float* step, Plain& cell) { cell.all = hn::LoadU(Tag(), step); }
HWY_INLINE void Take(const float* step, Split& cell) {
  hn::LoadInterleaved2(Tag(), step, cell.even, cell.odd);
}
HWY_INLINE void Put(const Plain& cell, float* step) { hn::StoreU(cell.all, Tag(), step); }
HWY_INLINE void Put(const Split& cell, float* step) {
  hn::StoreInterleaved2(cell.even, cell.odd, Tag(), step);
}

HWY_INLINE void AddScaled(Vec factor, const Plain& row, Plain& sum) {
  sum.all = hn::MulAdd(factor, row.all, sum.all);
}
HWY_INLINE void AddScaled(Vec factor, const Split& row, Split& sum) {
  sum.even = hn::MulAdd(factor, row.even, sum.even);
  sum.odd = hn::MulAdd(factor, row.odd, sum.odd);
}
HWY_INLINE Vec AddProduct(const Plain& a, const Plain& b, Vec sum) { return hn::MulAdd(a.all, b.all, sum); }
HWY_INLINE Vec AddProduct(const Split& a, const Split& b, Vec sum) {
  return hn::MulAdd(a.odd, b.odd, hn::MulAdd(a.even, b.even, sum));
}

HWY_INLINE float Number(float x) { return x; }
HWY_INLINE float Number(Bf16 x) { return to_float(x); }

// ------------------------------------------------------------------------------------------- accumulate

template <class T>
struct AccumulateBlock {
  const RowLists& lists;
  const float* value;
  const T* matrix;
  int64_t stride;
  float* out;
  int64_t out_stride;
  bool causal, prefetch;

  template <int V>
  HWY_INLINE void run(int64_t c) const {
    const Tag d;
    const int64_t cell = kVectors<T> * int64_t(hn::Lanes(d));
    Ahead ahead(lists, matrix, stride, c);
    for (int64_t r = causal ? c + 1 : 0; r < lists.rows; ++r) {
      ahead.step();
      const uint32_t begin = lists.offset[r], end = lists.offset[r + 1];
      if (begin == end) continue;
      float* sum = out + r * out_stride + c;
#define BROOD_LOAD(i) \
  Cell<T> s##i{};     \
  if constexpr (kVectors<T> * i < V) Take(sum + i * cell, s##i);
      BROOD_EACH_VECTOR(BROOD_LOAD)
#undef BROOD_LOAD
      for (uint32_t k = begin; k < end; ++k) {
        const T* row = matrix + int64_t(lists.index[k]) * stride + c;
        if (prefetch && k + kAhead<T> < end)
          Prefetch<V>(matrix + int64_t(lists.index[k + kAhead<T>]) * stride + c);
        const Vec v = hn::Set(d, value[k]);
#define BROOD_ADD(i) \
  if constexpr (kVectors<T> * i < V) AddScaled(v, FromRow(row + i * cell), s##i);
        BROOD_EACH_VECTOR(BROOD_ADD)
#undef BROOD_ADD
      }
#define BROOD_STORE(i) \
  if constexpr (kVectors<T> * i < V) Put(s##i, sum + i * cell);
      BROOD_EACH_VECTOR(BROOD_STORE)
#undef BROOD_STORE
    }
  }
};

template <class T>
void Accumulate(const RowLists& lists, const float* value, const T* matrix, int64_t stride, int64_t cols,
                float* out, int64_t out_stride, bool causal) {
  const bool few = lists.rows <= kFewSteps;
  const AccumulateBlock<T> block{lists, value, matrix, stride, out, out_stride, causal, few};
  // Shorter blocks of a triangle leave out more of it.
  OverColumns<kVectors<T>>(cols, !causal, block, [&](int64_t first) {
    for (int64_t r = 0; r < lists.rows; ++r)
      for (uint32_t k = lists.offset[r]; k < lists.offset[r + 1]; ++k)
        for (int64_t c = first; c < cols; ++c)
          out[r * out_stride + c] += value[k] * Number(matrix[lists.index[k] * stride + c]);
  });
}

void AccumulateRows(const RowLists& lists, const float* value, const float* matrix, int64_t stride,
                    int64_t cols, float* out, int64_t out_stride, bool causal) {
  Accumulate(lists, value, matrix, stride, cols, out, out_stride, causal);
}
void AccumulateRowsHalf(const RowLists& lists, const float* value, const Bf16* matrix, int64_t stride,
                        int64_t cols, float* out, int64_t out_stride) {
  Accumulate(lists, value, matrix, stride, cols, out, out_stride, false);
}

// ------------------------------------------------------------------------------------------- dot

template <class T>
struct DotBlock {
  const RowLists& lists;
  const T* matrix;
  int64_t stride;
  const float* steps;
  int64_t steps_stride;
  bool accumulate, prefetch;
  float* out;

  template <int V>
  HWY_INLINE void run(int64_t c) const {
    const Tag d;
    const int64_t cell = kVectors<T> * int64_t(hn::Lanes(d));
    constexpr uint32_t kNext = 4 * kVectors<T>;  // rows prefetched ahead
    const bool add = accumulate || c > 0;
    HWY_ALIGN float sums[4];
    Ahead ahead(lists, matrix, stride, c);
    for (int64_t r = 0; r < lists.rows; ++r) {
      ahead.step();
      const uint32_t begin = lists.offset[r], end = lists.offset[r + 1];
      if (begin == end) continue;
      const float* step = steps + r * steps_stride + c;
#define BROOD_LOAD(i) \
  Cell<T> t##i{};     \
  if constexpr (kVectors<T> * i < V) Take(step + i * cell, t##i);
      BROOD_EACH_VECTOR(BROOD_LOAD)
#undef BROOD_LOAD
      const auto row = [&](uint32_t k) { return matrix + int64_t(lists.index[k]) * stride + c; };
      uint32_t k = begin;
      for (; k + 2 < end; k += 4) {
        const uint32_t last = end - 1;  // a group of three repeats its last row
        const T *w0 = row(k), *w1 = row(k + 1), *w2 = row(k + 2), *w3 = row(std::min(k + 3, last));
        if (prefetch)
          for (uint32_t p = k + kNext; p < std::min(k + kNext + 4, end); ++p) Prefetch<V>(row(p));
        Vec s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
#define BROOD_ADD(i)                                   \
  if constexpr (kVectors<T> * i < V) {                 \
    s0 = AddProduct(t##i, FromRow(w0 + i * cell), s0); \
    s1 = AddProduct(t##i, FromRow(w1 + i * cell), s1); \
    s2 = AddProduct(t##i, FromRow(w2 + i * cell), s2); \
    s3 = AddProduct(t##i, FromRow(w3 + i * cell), s3); \
  }
        BROOD_EACH_VECTOR(BROOD_ADD)
#undef BROOD_ADD
        SumsOfFour(d, s0, s1, s2, s3, sums);
        if (k + 4 <= end)
          Deliver(sums, 4, add, out + k);
        else
          Deliver(sums, 3, add, out + k);
      }
      if (k >= end) continue;
      // One or two are left.
      const T *w0 = row(k), *w1 = row(end - 1);
      Vec s0 = hn::Zero(d), s1 = s0;
#define BROOD_ADD(i)                                   \
  if constexpr (kVectors<T> * i < V) {                 \
    s0 = AddProduct(t##i, FromRow(w0 + i * cell), s0); \
    s1 = AddProduct(t##i, FromRow(w1 + i * cell), s1); \
  }
      BROOD_EACH_VECTOR(BROOD_ADD)
#undef BROOD_ADD
      SumsOfFour(d, s0, s1, s0, s1, sums);
      Deliver(sums, k + 1 < end ? 2 : 1, add, out + k);
    }
  }
};

template <class T>
void Dot(const RowLists& lists, const T* matrix, int64_t stride, int64_t cols, const float* steps,
         int64_t steps_stride, bool accumulate, float* out) {
  const bool few = lists.rows <= kFewSteps;
  const DotBlock<T> block{lists, matrix, stride, steps, steps_stride, accumulate, few, out};
  OverColumns<kVectors<T>>(cols, true, block, [&](int64_t first) {
    for (int64_t r = 0; r < lists.rows; ++r) {
      for (uint32_t k = lists.offset[r]; k < lists.offset[r + 1]; ++k) {
        float sum = accumulate || first > 0 ? out[k] : 0.0f;
        for (int64_t c = first; c < cols; ++c)
          sum += steps[r * steps_stride + c] * Number(matrix[lists.index[k] * stride + c]);
        out[k] = sum;
      }
    }
  });
}

void DotRows(const RowLists& lists, const float* matrix, int64_t stride, int64_t cols, const float* steps,
             int64_t steps_stride, bool accumulate, float* out) {
  Dot(lists, matrix, stride, cols, steps, steps_stride, accumulate, out);
}
void DotRowsHalf(const RowLists& lists, const Bf16* matrix, int64_t stride, int64_t cols, const float* steps,
                 int64_t steps_stride, float* out) {
  Dot(lists, matrix, stride, cols, steps, steps_stride, false, out);
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(AccumulateRows);
HWY_EXPORT(AccumulateRowsHalf);
HWY_EXPORT(DotRows);
HWY_EXPORT(DotRowsHalf);

void accumulate_rows(const RowLists& lists, const float* value, const float* matrix, int64_t stride,
                     int64_t cols, float* out, int64_t out_stride, bool causal) {
  HWY_DYNAMIC_DISPATCH(AccumulateRows)(lists, value, matrix, stride, cols, out, out_stride, causal);
}

void dot_rows(const RowLists& lists, const float* matrix, int64_t stride, int64_t cols, const float* steps,
              int64_t steps_stride, bool accumulate, float* out) {
  HWY_DYNAMIC_DISPATCH(DotRows)(lists, matrix, stride, cols, steps, steps_stride, accumulate, out);
}

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
