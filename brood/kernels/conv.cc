// A task is a strip of channels through all streams and steps, since channels never meet. Within a strip,
// steps are taken in blocks of kSteps and a vector of channels is walked down a block: its weights and last
// inputs stay in registers, while the rows of a block are few enough for the processor to prefetch each of
// them.
#include "brood/kernels/conv.h"

#include <algorithm>

#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/conv.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"
#include "brood/kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

constexpr int64_t kSteps = 16;

// The row of C inputs at step t of stream b; negative t reach into the state.
inline const float* input_row(const CausalConv& conv, int64_t b, int64_t t) {
  if (t >= 0) return conv.x + (b * conv.T + t) * conv.x_stride;
  return conv.state_in + (b * (conv.width - 1) + conv.width - 1 + t) * conv.C;
}

// weight[c..][j] for a vector of channels.
template <class D>
HWY_INLINE hn::Vec<D> weights_of(D d, const CausalConv& conv, int64_t c, int64_t j) {
  const hn::RebindToSigned<D> di;
  const auto step = hn::Mul(hn::Iota(di, 0), hn::Set(di, int32_t(conv.width)));
  return hn::GatherIndex(d, conv.weight + c * conv.width + j, step);
}

template <class D>
HWY_INLINE void store_output(D d, const CausalConv& conv, hn::Vec<D> p, int64_t at, float* y, float* pre) {
  if (pre != nullptr) hn::StoreU(p, d, pre + at);
  hn::StoreU(conv.silu ? hn::Mul(p, Sigmoid(d, p)) : p, d, y + at);
}

template <class D>
HWY_INLINE hn::Vec<D> bias_of(D d, const CausalConv& conv, int64_t c) {
  return conv.bias == nullptr ? hn::Zero(d) : hn::LoadU(d, conv.bias + c);
}

// Steps [begin, end) of stream b, one vector of channels. Width 4, Mamba's.
template <class D>
HWY_INLINE void forward_four(D d, const CausalConv& conv, int64_t b, int64_t begin, int64_t end, int64_t c,
                             float* y, float* pre) {
  hn::Vec<D> w0, w1, w2, w3;
  hn::LoadInterleaved4(d, conv.weight + 4 * c, w0, w1, w2, w3);
  const auto bias = bias_of(d, conv, c);
  auto x0 = hn::LoadU(d, input_row(conv, b, begin - 3) + c);
  auto x1 = hn::LoadU(d, input_row(conv, b, begin - 2) + c);
  auto x2 = hn::LoadU(d, input_row(conv, b, begin - 1) + c);
  for (int64_t t = begin; t < end; ++t) {
    const auto x3 = hn::LoadU(d, input_row(conv, b, t) + c);
    const auto p = hn::MulAdd(w3, x3, hn::MulAdd(w2, x2, hn::MulAdd(w1, x1, hn::MulAdd(w0, x0, bias))));
    store_output(d, conv, p, (b * conv.T + t) * conv.C + c, y, pre);
    x0 = x1, x1 = x2, x2 = x3;
  }
}

template <class D>
HWY_INLINE void forward_any(D d, const CausalConv& conv, int64_t b, int64_t begin, int64_t end, int64_t c,
                            float* y, float* pre) {
  for (int64_t t = begin; t < end; ++t) {
    auto p = bias_of(d, conv, c);
    for (int64_t j = 0; j < conv.width; ++j)
      p = hn::MulAdd(weights_of(d, conv, c, j), hn::LoadU(d, input_row(conv, b, t - conv.width + 1 + j) + c),
                     p);
    store_output(d, conv, p, (b * conv.T + t) * conv.C + c, y, pre);
  }
}

// The last width−1 inputs. Steps are copied oldest first, so state_out may be state_in.
void store_state(const CausalConv& conv, int64_t begin, int64_t end, float* state_out) {
  for (int64_t b = 0; b < conv.B; ++b)
    for (int64_t s = 0; s < conv.width - 1; ++s) {
      const float* from = input_row(conv, b, conv.T - conv.width + 1 + s);
      float* to = state_out + (b * (conv.width - 1) + s) * conv.C;
      if (from != to) std::copy(from + begin, from + end, to + begin);
    }
}

void forward_strip(int64_t c_begin, int64_t c_end, const CausalConv& conv, float* y, float* pre,
                   float* state_out) {
  for (int64_t b = 0; b < conv.B; ++b)
    for (int64_t begin = 0; begin < conv.T; begin += kSteps) {
      const int64_t end = std::min(conv.T, begin + kSteps);
      for_each_vector(c_begin, c_end, [&](auto d, int64_t c) HWY_ATTR {
        if (conv.width == 4)
          forward_four(d, conv, b, begin, end, c, y, pre);
        else
          forward_any(d, conv, b, begin, end, c, y, pre);
      });
    }
  store_state(conv, c_begin, c_end, state_out);
}

// The gradient of p: dy through silu.
void pre_gradient(int64_t begin, int64_t end, const CausalConv& conv, const float* pre, const float* dy,
                  float* dp) {
  for (int64_t row = 0; row < conv.B * conv.T; ++row)
    for_each_vector(row * conv.C + begin, row * conv.C + end, [&](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::Mul(hn::LoadU(d, dy + i), SiluSlope(d, hn::LoadU(d, pre + i))), d, dp + i);
    });
}

// to += the gradient that the input at step t (from the state when negative) has through its outputs:
// Σ_j weight[j]·dp_{t + width − 1 − j}.
void input_gradient(int64_t begin, int64_t end, const CausalConv& conv, const float* dp, int64_t b, int64_t t,
                    float* to) {
  const float* stream = dp + b * conv.T * conv.C;
  for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
    auto sum = hn::LoadU(d, to + c);
    for (int64_t j = conv.width - 1; j >= 0; --j) {
      const int64_t reached = t + conv.width - 1 - j;
      if (reached < 0 || reached >= conv.T) continue;
      sum = hn::MulAdd(weights_of(d, conv, c, j), hn::LoadU(d, stream + reached * conv.C + c), sum);
    }
    hn::StoreU(sum, d, to + c);
  });
}

// The same for a block of steps of width 4 whose outputs all lie in the chunk.
void input_gradient_four(int64_t c_begin, int64_t c_end, const CausalConv& conv, const float* dp, int64_t b,
                         int64_t begin, int64_t end, float* dx, int64_t dx_stride) {
  const float* stream = dp + b * conv.T * conv.C;
  for_each_vector(c_begin, c_end, [&](auto d, int64_t c) HWY_ATTR {
    hn::Vec<decltype(d)> w0, w1, w2, w3;
    hn::LoadInterleaved4(d, conv.weight + 4 * c, w0, w1, w2, w3);
    const float* ahead = stream + c;
    auto p0 = hn::LoadU(d, ahead + begin * conv.C);
    auto p1 = hn::LoadU(d, ahead + (begin + 1) * conv.C);
    auto p2 = hn::LoadU(d, ahead + (begin + 2) * conv.C);
    for (int64_t t = begin; t < end; ++t) {
      const auto p3 = hn::LoadU(d, ahead + (t + 3) * conv.C);
      float* to = dx + (b * conv.T + t) * dx_stride + c;
      const auto sum = hn::MulAdd(w3, p0, hn::LoadU(d, to));
      hn::StoreU(hn::MulAdd(w0, p3, hn::MulAdd(w1, p2, hn::MulAdd(w2, p1, sum))), d, to);
      p0 = p1, p1 = p2, p2 = p3;
    }
  });
}

void chunk_gradient(int64_t c_begin, int64_t c_end, const CausalConv& conv, const float* dp, int64_t b,
                    float* dx, int64_t dx_stride) {
  int64_t t = 0;
  if (conv.width == 4)
    for (; t + 3 < conv.T; t = std::min(conv.T - 3, t + kSteps))
      input_gradient_four(c_begin, c_end, conv, dp, b, t, std::min(conv.T - 3, t + kSteps), dx, dx_stride);
  for (; t < conv.T; ++t) input_gradient(c_begin, c_end, conv, dp, b, t, dx + (b * conv.T + t) * dx_stride);
}

// What the states' gradients add: every input still in state_out got dstate_out's share.
void state_gradient(int64_t begin, int64_t end, const CausalConv& conv, const float* dp,
                    const float* dstate_out, int64_t b, float* dx, int64_t dx_stride, float* dstate_in) {
  const int64_t kept = conv.width - 1;
  float* dstate = dstate_in == nullptr ? nullptr : dstate_in + b * kept * conv.C;
  if (dstate != nullptr)
    for (int64_t s = 0; s < kept; ++s) input_gradient(begin, end, conv, dp, b, s - kept, dstate + s * conv.C);
  if (dstate_out == nullptr) return;
  for (int64_t s = 0; s < kept; ++s) {
    const int64_t t = conv.T - kept + s;
    const float* from = dstate_out + (b * kept + s) * conv.C;
    float* to = nullptr;
    if (t >= 0 && dx != nullptr) to = dx + (b * conv.T + t) * dx_stride;
    if (t < 0 && dstate != nullptr) to = dstate + (t + kept) * conv.C;
    if (to == nullptr) continue;
    for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, to + c), hn::LoadU(d, from + c)), d, to + c);
    });
  }
}

// sums[c] += Σ over steps [begin, end) of stream b of dp_t·x_{t−back}; without inputs, of dp_t alone.
void weight_gradient(int64_t c_begin, int64_t c_end, const CausalConv& conv, const float* dp, int64_t b,
                     int64_t begin, int64_t end, int64_t back, float* sums) {
  for_each_vector(c_begin, c_end, [&](auto d, int64_t c) HWY_ATTR {
    auto sum = hn::LoadU(d, sums + c);
    for (int64_t t = begin; t < end; ++t)
      sum = hn::MulAdd(hn::LoadU(d, dp + (b * conv.T + t) * conv.C + c),
                       hn::LoadU(d, input_row(conv, b, t - back) + c), sum);
    hn::StoreU(sum, d, sums + c);
  });
}

void bias_gradient(int64_t c_begin, int64_t c_end, const CausalConv& conv, const float* dp, int64_t b,
                   int64_t begin, int64_t end, float* sums) {
  for_each_vector(c_begin, c_end, [&](auto d, int64_t c) HWY_ATTR {
    auto sum = hn::LoadU(d, sums + c);
    for (int64_t t = begin; t < end; ++t)
      sum = hn::Add(sum, hn::LoadU(d, dp + (b * conv.T + t) * conv.C + c));
    hn::StoreU(sum, d, sums + c);
  });
}

// sums: width rows of C, for weight transposed.
void parameter_gradients(int64_t c_begin, int64_t c_end, const CausalConv& conv, const float* dp,
                         float* dweight, float* dbias, float* sums) {
  if (dweight != nullptr)
    for (int64_t j = 0; j < conv.width; ++j)
      std::fill(sums + j * conv.C + c_begin, sums + j * conv.C + c_end, 0.0f);
  for (int64_t b = 0; b < conv.B; ++b)
    for (int64_t begin = 0; begin < conv.T; begin += kSteps) {
      const int64_t end = std::min(conv.T, begin + kSteps);
      if (dbias != nullptr) bias_gradient(c_begin, c_end, conv, dp, b, begin, end, dbias);
      if (dweight == nullptr) continue;
      for (int64_t j = 0; j < conv.width; ++j)
        weight_gradient(c_begin, c_end, conv, dp, b, begin, end, conv.width - 1 - j, sums + j * conv.C);
    }
  if (dweight == nullptr) return;
  for (int64_t c = c_begin; c < c_end; ++c)
    for (int64_t j = 0; j < conv.width; ++j) dweight[c * conv.width + j] += sums[j * conv.C + c];
}

void backward_strip(int64_t begin, int64_t end, const CausalConv& conv, const float* pre, const float* dy,
                    const float* dstate_out, float* dx, int64_t dx_stride, float* dweight, float* dbias,
                    float* dstate_in, float* scratch) {
  float* sums = scratch;
  const float* dp = dy;
  if (conv.silu) {
    float* own = scratch + conv.width * conv.C;
    pre_gradient(begin, end, conv, pre, dy, own);
    dp = own;
  }
  for (int64_t b = 0; b < conv.B; ++b) {
    if (dx != nullptr) chunk_gradient(begin, end, conv, dp, b, dx, dx_stride);
    state_gradient(begin, end, conv, dp, dstate_out, b, dx, dx_stride, dstate_in);
  }
  parameter_gradients(begin, end, conv, dp, dweight, dbias, sums);
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(forward_strip);
HWY_EXPORT(backward_strip);

void causal_conv_forward(const CausalConv& conv, float* y, float* pre, float* state_out) {
  parallel_columns(conv.B * conv.T, conv.C, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(forward_strip)(begin, end, conv, y, pre, state_out);
  });
}

int64_t causal_conv_scratch(const CausalConv& conv) {
  return conv.C * (conv.width + (conv.silu ? conv.B * conv.T : 0));
}

void causal_conv_backward(const CausalConv& conv, const float* pre, const float* dy, const float* dstate_out,
                          float* dx, int64_t dx_stride, float* dweight, float* dbias, float* dstate_in,
                          float* scratch) {
  parallel_columns(conv.B * conv.T, conv.C, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(backward_strip)
    (begin, end, conv, pre, dy, dstate_out, dx, dx_stride, dweight, dbias, dstate_in, scratch);
  });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
