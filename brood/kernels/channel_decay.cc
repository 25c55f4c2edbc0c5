// One pass over the steps for a block of channels whose states stay in registers. Memory binds it.
#include "brood/kernels/channel_decay.h"

#include <algorithm>

#include "brood/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/channel_decay.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef BROOD_KERNELS_CHANNEL_DECAY_GRADIENTS_
#define BROOD_KERNELS_CHANNEL_DECAY_GRADIENTS_
namespace brood::kernels {

struct ChannelDecayGradients {
  const float *c, *kept, *dc, *dstate_out;
  float* dv;
  int64_t dv_stride;
  float* dstate_in;
};

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// Calls function(d, integral constant W, channel) for the groups of W vectors that cover [begin, end).
template <class Function>
HWY_INLINE void over_channels(int64_t begin, int64_t end, const Function& function) {
  const hn::CappedTag<float, 16> d;
  const hn::CappedTag<float, 1> one;
  constexpr int64_t kLanes = int64_t(hn::MaxLanes(d));
  int64_t c = begin;
  for (; c + 4 * kLanes <= end; c += 4 * kLanes) function(d, std::integral_constant<int, 4>(), c);
  for (; c + kLanes <= end; c += kLanes) function(d, std::integral_constant<int, 1>(), c);
  for (; c < end; ++c) function(one, std::integral_constant<int, 1>(), c);
}

// Where the state of stream b begins.
HWY_INLINE int64_t state_of(const ChannelDecay& s, int64_t b) { return b * s.C * (s.slope ? 2 : 1); }

// W vectors of channels from c, all steps of stream b.
template <bool kSlope, int W, class D>
HWY_INLINE void run_forward(D d, const ChannelDecay& s, int64_t b, int64_t c, float* out, float* state_out,
                            float* kept) {
  constexpr int64_t kWidth = int64_t(hn::MaxLanes(D()));
  const auto one = hn::Set(d, 1.0f);
  hn::Vec<D> a[W], n[W], z[W];
  const int64_t state = state_of(s, b) + c;
  for (int w = 0; w < W; ++w) {
    a[w] = hn::LoadU(d, s.decay + c + w * kWidth);
    n[w] = hn::LoadU(d, s.state_in + state + w * kWidth);
    z[w] = kSlope ? hn::LoadU(d, s.state_in + state + s.C + w * kWidth) : one;
  }
  for (int64_t row = b * s.T; row < (b + 1) * s.T; ++row) {
    for (int w = 0; w < W; ++w) {
      const int64_t at = c + w * kWidth;
      n[w] = hn::MulAdd(a[w], n[w], hn::LoadU(d, s.v + row * s.v_stride + at));
      if constexpr (kSlope) {
        z[w] = hn::MulAdd(a[w], z[w], one);
        const auto inverse = hn::Div(one, z[w]);
        if (kept != nullptr) hn::StoreU(inverse, d, kept + row * s.C + at);
        hn::StoreU(hn::Mul(n[w], inverse), d, out + row * s.C + at);
      } else {
        hn::StoreU(n[w], d, out + row * s.C + at);
      }
    }
  }
  for (int w = 0; w < W; ++w) {
    hn::StoreU(n[w], d, state_out + state + w * kWidth);
    if constexpr (kSlope) hn::StoreU(z[w], d, state_out + state + s.C + w * kWidth);
  }
}

void filter_forward(const ChannelDecay& s, int64_t b, int64_t begin, int64_t end, float* out,
                    float* state_out, float* kept) {
  over_channels(begin, end, [&](auto d, auto W, int64_t c) HWY_ATTR {
    if (s.slope)
      run_forward<true, decltype(W)::value>(d, s, b, c, out, state_out, kept);
    else
      run_forward<false, decltype(W)::value>(d, s, b, c, out, state_out, kept);
  });
}

// e_t = dc_t/z_t + a e_{t+1} is the gradient of n_t, and dv_t = e_t. That of z_t is f_t = a f_{t+1} −
// dc_t c_t/z_t. Both begin as the gradient of the final state and end, times a, as that of the initial one.
template <bool kSlope, int W, class D>
HWY_INLINE void run_backward(D d, const ChannelDecay& s, int64_t b, int64_t c,
                             const ChannelDecayGradients& g) {
  constexpr int64_t kWidth = int64_t(hn::MaxLanes(D()));
  hn::Vec<D> a[W], e[W], f[W];  // e and f carry the factor a already, but for the last step's
  const int64_t state = state_of(s, b) + c;
  for (int w = 0; w < W; ++w) {
    a[w] = hn::LoadU(d, s.decay + c + w * kWidth);
    e[w] = f[w] = hn::Zero(d);
    if (g.dstate_out == nullptr) continue;
    e[w] = hn::LoadU(d, g.dstate_out + state + w * kWidth);
    if constexpr (kSlope) f[w] = hn::LoadU(d, g.dstate_out + state + s.C + w * kWidth);
  }
  for (int64_t row = (b + 1) * s.T - 1; row >= b * s.T; --row) {
    for (int w = 0; w < W; ++w) {
      const int64_t at = c + w * kWidth;
      auto own = hn::LoadU(d, g.dc + row * s.C + at);
      if constexpr (kSlope) {
        own = hn::Mul(own, hn::LoadU(d, g.kept + row * s.C + at));
        f[w] = hn::Mul(a[w], hn::NegMulAdd(own, hn::LoadU(d, g.c + row * s.C + at), f[w]));
      }
      const auto gradient = hn::Add(own, e[w]);
      e[w] = hn::Mul(a[w], gradient);
      if (g.dv == nullptr) continue;
      float* dv = g.dv + row * g.dv_stride + at;
      hn::StoreU(hn::Add(gradient, hn::LoadU(d, dv)), d, dv);
    }
  }
  if (g.dstate_in == nullptr) return;
  for (int w = 0; w < W; ++w) {
    float* to = g.dstate_in + state + w * kWidth;
    hn::StoreU(hn::Add(e[w], hn::LoadU(d, to)), d, to);
    if constexpr (kSlope) hn::StoreU(hn::Add(f[w], hn::LoadU(d, to + s.C)), d, to + s.C);
  }
}

void filter_backward(const ChannelDecay& s, int64_t b, int64_t begin, int64_t end,
                     const ChannelDecayGradients& g) {
  over_channels(begin, end, [&](auto d, auto W, int64_t c) HWY_ATTR {
    if (s.slope)
      run_backward<true, decltype(W)::value>(d, s, b, c, g);
    else
      run_backward<false, decltype(W)::value>(d, s, b, c, g);
  });
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(filter_forward);
HWY_EXPORT(filter_backward);

namespace {

// Runs task(b, first channel, end) for every stream and block of channels, by the pool where that pays: below
// this many elements (some 0.3 ns each) a call is over before a second thread has helped.
template <class Task>
void for_every_block(const ChannelDecay& s, const Task& task) {
  constexpr int64_t kTaskChannels = 64, kInlineElements = 50'000;
  const int64_t per_stream = (s.C + kTaskChannels - 1) / kTaskChannels;
  auto one = [&](int64_t i) {
    const int64_t begin = i % per_stream * kTaskChannels;
    task(i / per_stream, begin, std::min(begin + kTaskChannels, s.C));
  };
  if (s.B * s.T * s.C >= kInlineElements) return parallel(s.B * per_stream, one);
  for (int64_t i = 0; i < s.B * per_stream; ++i) one(i);
}

}  // namespace

void channel_decay_forward(const ChannelDecay& s, float* c, float* state_out, float* kept) {
  const auto forward = HWY_DYNAMIC_DISPATCH(filter_forward);
  for_every_block(
      s, [&](int64_t b, int64_t begin, int64_t end) { forward(s, b, begin, end, c, state_out, kept); });
}

void channel_decay_backward(const ChannelDecay& s, const float* c, const float* kept, const float* dc,
                            const float* dstate_out, float* dv, int64_t dv_stride, float* dstate_in) {
  const ChannelDecayGradients g{c, kept, dc, dstate_out, dv, dv_stride, dstate_in};
  const auto backward = HWY_DYNAMIC_DISPATCH(filter_backward);
  for_every_block(s, [&](int64_t b, int64_t begin, int64_t end) { backward(s, b, begin, end, g); });
}

}  // namespace brood::kernels
#endif
