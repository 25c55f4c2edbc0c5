// Products of neurons' rows that write: the gradients of rows, and Hebbian steps that read before they write.
#include "brood/kernels/neuron_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/neuron_rows_write.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/neuron_rows-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

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

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(ScatterRows);
HWY_EXPORT(ReadAndWriteRows);

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
