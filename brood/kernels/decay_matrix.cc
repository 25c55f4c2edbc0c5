#include "brood/kernels/selective_scan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/decay_matrix.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/vector_loop-inl.h"
#include "brood/kernels/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

// Exponentials run along a_log's own rows, where they are contiguous; only the stores are scattered. What is
// left of a row after its whole vectors goes one number at a time, so nothing is read beyond the end.
void DecayMatrix(int64_t C, int64_t N, const float* a_log, float* A) {
  for (int64_t c = 0; c < C; ++c) {
    for_each_vector(0, N, [&](auto d, int64_t n) HWY_ATTR {
      HWY_ALIGN float exps[HWY_MAX_BYTES / sizeof(float)];
      hn::StoreU(hn::Neg(Exp(d, hn::LoadU(d, a_log + c * N + n))), d, exps);
      for (int64_t i = 0; i < int64_t(hn::Lanes(d)); ++i) A[(n + i) * C + c] = exps[i];
    });
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
