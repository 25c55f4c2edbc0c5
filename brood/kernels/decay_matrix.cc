#include <algorithm>

#include "brood/kernels/selective_scan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/decay_matrix.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

// Exponentials run along a_log's own rows, where they are contiguous; only the stores are scattered.
void DecayMatrix(int64_t C, int64_t N, const float* a_log, float* A) {
  const hn::CappedTag<float, 16> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  HWY_ALIGN float exps[16];
  for (int64_t c = 0; c < C; ++c) {
    for (int64_t n = 0; n < N; n += lanes) {
      const int64_t count = std::min(lanes, N - n);
      const auto row = count == lanes ? hn::LoadU(d, a_log + c * N + n)
                                      : hn::MaskedLoad(hn::FirstN(d, size_t(count)), d, a_log + c * N + n);
      hn::Store(hn::Neg(Exp(d, row)), d, exps);
      for (int64_t i = 0; i < count; ++i) A[(n + i) * C + c] = exps[i];
    }
  }
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(DecayMatrix);

void decay_matrix(int64_t C, int64_t N, const float* a_log, float* A) {
  HWY_DYNAMIC_DISPATCH(DecayMatrix)(C, N, a_log, A);
}

}  // namespace brood::kernels
#endif
