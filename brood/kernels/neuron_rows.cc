// The columns are walked in blocks of V vectors: a block of the step (or of its sum) stays in registers while
// the rows of the list stream past. With 512-bit vectors one block is 256 columns. A tile of 64 such rows (64
// KB) lies in L2; reading it from there beats shorter blocks of a copy in L1, whose lists are walked twice
// and whose steps come in halves, by 10 to 30 % at the shares awake that matter.
#include "brood/kernels/neuron_rows.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/neuron_rows.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/neuron_rows-inl.h"
#include "hwy/highway.h"

// Vectors cannot be elements of arrays on scalable targets, so sixteen of them are named.
#ifndef BROOD_EACH_VECTOR
#define BROOD_EACH_VECTOR(M) \
  M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

// ------------------------------------------------------------------------------------------- accumulate

struct AccumulateBlock {
  const RowLists& lists;
  const float* value;
  const float* matrix;
  int64_t stride;
  float* out;
  int64_t out_stride;
  bool causal, prefetch;

  template <int V>
  HWY_INLINE void run(int64_t c) const {
    const Tag d;
    const int64_t lanes = int64_t(hn::Lanes(d));
    Ahead ahead(lists, matrix, stride, c);
    for (int64_t r = causal ? c + 1 : 0; r < lists.rows; ++r) {
      ahead.step();
      const uint32_t begin = lists.offset[r], end = lists.offset[r + 1];
      if (begin == end) continue;
      float* sum = out + r * out_stride + c;
#define BROOD_LOAD(i)      \
  auto s##i = hn::Zero(d); \
  if constexpr (i < V) s##i = hn::LoadU(d, sum + i * lanes);
      BROOD_EACH_VECTOR(BROOD_LOAD)
#undef BROOD_LOAD
      for (uint32_t k = begin; k < end; ++k) {
        const float* row = matrix + int64_t(lists.index[k]) * stride + c;
        if (prefetch && k + kAhead<float> < end)
          Prefetch<V>(matrix + int64_t(lists.index[k + kAhead<float>]) * stride + c);
        const auto v = hn::Set(d, value[k]);
#define BROOD_ADD(i) \
  if constexpr (i < V) s##i = hn::MulAdd(v, hn::LoadU(d, row + i * lanes), s##i);
        BROOD_EACH_VECTOR(BROOD_ADD)
#undef BROOD_ADD
      }
#define BROOD_STORE(i) \
  if constexpr (i < V) hn::StoreU(s##i, d, sum + i * lanes);
      BROOD_EACH_VECTOR(BROOD_STORE)
#undef BROOD_STORE
    }
  }
};

void AccumulateRows(const RowLists& lists, const float* value, const float* matrix, int64_t stride,
                    int64_t cols, float* out, int64_t out_stride, bool causal) {
  const bool few = lists.rows <= kFewSteps;
  const AccumulateBlock block{lists, value, matrix, stride, out, out_stride, causal, few};
  // Shorter blocks of a triangle leave out more of it.
  OverColumns<1>(cols, !causal, block, [&](int64_t first) {
    for (int64_t r = 0; r < lists.rows; ++r)
      for (uint32_t k = lists.offset[r]; k < lists.offset[r + 1]; ++k)
        for (int64_t c = first; c < cols; ++c)
          out[r * out_stride + c] += value[k] * matrix[lists.index[k] * stride + c];
  });
}

// ------------------------------------------------------------------------------------------- dot

struct DotBlock {
  const RowLists& lists;
  const float* matrix;
  int64_t stride;
  const float* steps;
  int64_t steps_stride;
  bool accumulate, prefetch;
  float* out;

  template <int V>
  HWY_INLINE void run(int64_t c) const {
    const Tag d;
    const int64_t lanes = int64_t(hn::Lanes(d));
    const bool add = accumulate || c > 0;
    HWY_ALIGN float sums[4];
    Ahead ahead(lists, matrix, stride, c);
    for (int64_t r = 0; r < lists.rows; ++r) {
      ahead.step();
      const uint32_t begin = lists.offset[r], end = lists.offset[r + 1];
      if (begin == end) continue;
      const float* step = steps + r * steps_stride + c;
#define BROOD_LOAD(i)      \
  auto t##i = hn::Zero(d); \
  if constexpr (i < V) t##i = hn::LoadU(d, step + i * lanes);
      BROOD_EACH_VECTOR(BROOD_LOAD)
#undef BROOD_LOAD
      const auto row = [&](uint32_t k) { return matrix + int64_t(lists.index[k]) * stride + c; };
      uint32_t k = begin;
      for (; k + 2 < end; k += 4) {
        const uint32_t last = end - 1;  // a group of three repeats its last row
        const float *w0 = row(k), *w1 = row(k + 1), *w2 = row(k + 2), *w3 = row(std::min(k + 3, last));
        if (prefetch)
          for (uint32_t p = k + 4; p < std::min(k + 8, end); ++p) Prefetch<V>(row(p));
        auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
#define BROOD_ADD(i)                                         \
  if constexpr (i < V) {                                     \
    s0 = hn::MulAdd(t##i, hn::LoadU(d, w0 + i * lanes), s0); \
    s1 = hn::MulAdd(t##i, hn::LoadU(d, w1 + i * lanes), s1); \
    s2 = hn::MulAdd(t##i, hn::LoadU(d, w2 + i * lanes), s2); \
    s3 = hn::MulAdd(t##i, hn::LoadU(d, w3 + i * lanes), s3); \
  }
        BROOD_EACH_VECTOR(BROOD_ADD)
#undef BROOD_ADD
        SumFour(s0, s1, s2, s3, sums);
        if (k + 4 <= end)
          Deliver(sums, 4, add, out + k);
        else
          Deliver(sums, 3, add, out + k);
      }
      if (k >= end) continue;
      // One or two are left.
      const float *w0 = row(k), *w1 = row(end - 1);
      auto s0 = hn::Zero(d), s1 = s0;
#define BROOD_ADD(i)                                         \
  if constexpr (i < V) {                                     \
    s0 = hn::MulAdd(t##i, hn::LoadU(d, w0 + i * lanes), s0); \
    s1 = hn::MulAdd(t##i, hn::LoadU(d, w1 + i * lanes), s1); \
  }
      BROOD_EACH_VECTOR(BROOD_ADD)
#undef BROOD_ADD
      SumFour(s0, s1, s0, s1, sums);
      Deliver(sums, k + 1 < end ? 2 : 1, add, out + k);
    }
  }
};

void DotRows(const RowLists& lists, const float* matrix, int64_t stride, int64_t cols, const float* steps,
             int64_t steps_stride, bool accumulate, float* out) {
  const bool few = lists.rows <= kFewSteps;
  const DotBlock block{lists, matrix, stride, steps, steps_stride, accumulate, few, out};
  OverColumns<1>(cols, true, block, [&](int64_t first) {
    for (int64_t r = 0; r < lists.rows; ++r) {
      for (uint32_t k = lists.offset[r]; k < lists.offset[r + 1]; ++k) {
        float sum = accumulate || first > 0 ? out[k] : 0.0f;
        for (int64_t c = first; c < cols; ++c)
          sum += steps[r * steps_stride + c] * matrix[lists.index[k] * stride + c];
        out[k] = sum;
      }
    }
  });
}

// ------------------------------------------------------------------------------------------- scatter

struct ScatterBlock {
  const RowLists& lists;
  const float* value;
  const float* steps;
  int64_t steps_stride;
  float* matrix;
  int64_t stride;
  bool prefetch;

  template <int V>
  HWY_INLINE void run(int64_t c) const {
    const Tag d;
    const int64_t lanes = int64_t(hn::Lanes(d));
    Ahead ahead(lists, matrix, stride, c);
    for (int64_t r = 0; r < lists.rows; ++r) {
      ahead.step();
      const uint32_t begin = lists.offset[r], end = lists.offset[r + 1];
      if (begin == end) continue;
      const float* step = steps + r * steps_stride + c;
#define BROOD_LOAD(i)      \
  auto t##i = hn::Zero(d); \
  if constexpr (i < V) t##i = hn::LoadU(d, step + i * lanes);
      BROOD_EACH_VECTOR(BROOD_LOAD)
#undef BROOD_LOAD
      for (uint32_t k = begin; k < end; ++k) {
        float* row = matrix + int64_t(lists.index[k]) * stride + c;
        if (prefetch && k + kAhead<float> < end)
          Prefetch<V>(matrix + int64_t(lists.index[k + kAhead<float>]) * stride + c);
        const auto v = hn::Set(d, value[k]);
#define BROOD_ADD(i) \
  if constexpr (i < V) hn::StoreU(hn::MulAdd(v, t##i, hn::LoadU(d, row + i * lanes)), d, row + i * lanes);
        BROOD_EACH_VECTOR(BROOD_ADD)
#undef BROOD_ADD
      }
    }
  }
};

void ScatterRows(const RowLists& lists, const float* value, const float* steps, int64_t steps_stride,
                 int64_t cols, float* matrix, int64_t stride) {
  const bool few = lists.rows <= kFewSteps;
  const ScatterBlock block{lists, value, steps, steps_stride, matrix, stride, few};
  OverColumns<1>(cols, true, block, [&](int64_t first) {
    for (int64_t r = 0; r < lists.rows; ++r)
      for (uint32_t k = lists.offset[r]; k < lists.offset[r + 1]; ++k)
        for (int64_t c = first; c < cols; ++c)
          matrix[lists.index[k] * stride + c] += value[k] * steps[r * steps_stride + c];
  });
}

// ------------------------------------------------------------------------------------------- read and write

struct ReadWriteBlock {
  int64_t count;
  const uint32_t* index;
  const float* value;
  const float* written;
  float* matrix;
  int64_t stride;
  float* out;

  template <int V>
  HWY_INLINE void run(int64_t c) const {
    const Tag d;
    const int64_t lanes = int64_t(hn::Lanes(d));
    const float* from = written + c;
#define BROOD_LOAD(i)      \
  auto s##i = hn::Zero(d); \
  if constexpr (i < V) s##i = hn::LoadU(d, out + c + i * lanes);
    BROOD_EACH_VECTOR(BROOD_LOAD)
#undef BROOD_LOAD
    for (int64_t k = 0; k < count; ++k) {
      float* row = matrix + (index ? int64_t(index[k]) : k) * stride + c;
      if (index && k + kAhead<float> < count) Prefetch<V>(matrix + index[k + kAhead<float>] * stride + c);
      const auto v = hn::Set(d, value[k]);
#define BROOD_BOTH(i)                                                                   \
  if constexpr (i < V) {                                                                \
    const auto old = hn::LoadU(d, row + i * lanes);                                     \
    s##i = hn::MulAdd(v, old, s##i);                                                    \
    hn::StoreU(hn::MulAdd(v, hn::LoadU(d, from + i * lanes), old), d, row + i * lanes); \
  }
      BROOD_EACH_VECTOR(BROOD_BOTH)
#undef BROOD_BOTH
    }
#define BROOD_STORE(i) \
  if constexpr (i < V) hn::StoreU(s##i, d, out + c + i * lanes);
    BROOD_EACH_VECTOR(BROOD_STORE)
#undef BROOD_STORE
  }
};

void ReadAndWriteRows(int64_t count, const uint32_t* index, const float* value, const float* written,
                      int64_t cols, float* matrix, int64_t stride, float* out) {
  const ReadWriteBlock block{count, index, value, written, matrix, stride, out};
  OverColumns<1>(cols, true, block, [&](int64_t first) {
    for (int64_t k = 0; k < count; ++k) {
      float* row = matrix + (index ? int64_t(index[k]) : k) * stride;
      for (int64_t c = first; c < cols; ++c) {
        out[c] += value[k] * row[c];
        row[c] += value[k] * written[c];
      }
    }
  });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(AccumulateRows);
HWY_EXPORT(DotRows);
HWY_EXPORT(ScatterRows);
HWY_EXPORT(ReadAndWriteRows);

void accumulate_rows(const RowLists& lists, const float* value, const float* matrix, int64_t stride,
                     int64_t cols, float* out, int64_t out_stride, bool causal) {
  HWY_DYNAMIC_DISPATCH(AccumulateRows)(lists, value, matrix, stride, cols, out, out_stride, causal);
}

void dot_rows(const RowLists& lists, const float* matrix, int64_t stride, int64_t cols, const float* steps,
              int64_t steps_stride, bool accumulate, float* out) {
  HWY_DYNAMIC_DISPATCH(DotRows)(lists, matrix, stride, cols, steps, steps_stride, accumulate, out);
}

void scatter_rows(const RowLists& lists, const float* value, const float* steps, int64_t steps_stride,
                  int64_t cols, float* matrix, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(ScatterRows)(lists, value, steps, steps_stride, cols, matrix, stride);
}

void read_and_write_rows(int64_t count, const uint32_t* index, const float* value, const float* written,
                         int64_t cols, float* matrix, int64_t stride, float* out) {
  HWY_DYNAMIC_DISPATCH(ReadAndWriteRows)(count, index, value, written, cols, matrix, stride, out);
}

}  // namespace brood::kernels
#endif
