#include "brood/kernels/complex_traces.h"

#include "brood/kernels/channel_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/complex_traces.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/complex-inl.h"
#include "brood/kernels/vector_loop-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

// All steps of stream b for the channels [begin, end): a mode's numbers stay in registers.
void forward(const ComplexScan& s, int64_t b, int64_t begin, int64_t end, const float* in, float* out) {
  const int64_t modes = s.N * 2 * s.C, row = b * s.T;
  for (int64_t n = 0; n < s.N; ++n) {
    for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
      const int64_t at = 2 * n * s.C + c, p_at = 2 * b * modes + at, q_at = p_at + modes;
      const auto A = Load(d, s.A + at, s.C), B = Load(d, s.input + at, s.C);
      auto h = Load(d, s.h_in + b * modes + at, s.C), p = Load(d, in + p_at, s.C),
           q = Load(d, in + q_at, s.C);
      for (int64_t t = 0; t < s.T; ++t) {
        const auto u = hn::LoadU(d, s.u.row(row + t) + c);
        p = Plus(Times(A, p), h);
        q = Times(A, q);
        q.re = hn::Add(q.re, u);
        h = Step(A, B, h, u);
      }
      Store(d, p, out + p_at, s.C);
      Store(d, q, out + q_at, s.C);
    });
  }
}

void backward(const ComplexScan& s, int64_t begin, int64_t end, const float* traces, const float* dh_in,
              float* dA, float* dB) {
  const int64_t modes = s.N * 2 * s.C;
  for (int64_t n = 0; n < s.N; ++n) {
    for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
      const int64_t at = 2 * n * s.C + c;
      auto to_A = Load(d, dA + at, s.C), to_B = Load(d, dB + at, s.C);
      for (int64_t b = 0; b < s.B; ++b) {
        const float* trace = traces + 2 * b * modes + at;
        const auto g = Load(d, dh_in + b * modes + at, s.C);
        to_A = Plus(to_A, ConjugateTimes(Load(d, trace, s.C), g));
        to_B = Plus(to_B, ConjugateTimes(Load(d, trace + modes, s.C), g));
      }
      Store(d, to_A, dA + at, s.C);
      Store(d, to_B, dB + at, s.C);
    });
  }
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(forward);
HWY_EXPORT(backward);

namespace {

// A step meets every number once, in memory's own order; many steps want their inputs in the first-level cache.
constexpr int64_t kFewSteps = 3, kFewStepsChannels = 256;

}  // namespace

void complex_traces_forward(const ComplexScan& s, const float* in, float* out) {
  const bool pays = s.B * s.T * s.C * s.N >= 50'000;  // some 0.4 ns each
  const auto run = HWY_DYNAMIC_DISPATCH(forward);
  for_every_channel_block(s.B, s.C, s.T <= kFewSteps ? kFewStepsChannels : kChannelBlock, pays,
                          [&](int64_t b, int64_t begin, int64_t end) { run(s, b, begin, end, in, out); });
}

void complex_traces_backward(const ComplexScan& s, const float* traces, const float* dh_in, float* dA,
                             float* dB) {
  const bool pays = s.B * s.C * s.N >= 20'000;  // some 1 ns each
  const auto run = HWY_DYNAMIC_DISPATCH(backward);
  for_every_channel_block(1, s.C, kFewStepsChannels, pays, [&](int64_t, int64_t begin, int64_t end) {
    run(s, begin, end, traces, dh_in, dA, dB);
  });
}

}  // namespace brood::kernels
#endif
