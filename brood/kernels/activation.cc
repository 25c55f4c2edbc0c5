#include "brood/kernels/activation.h"

#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/activation.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"
#include "brood/kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

// Every function works on [begin, end) of arrays given from their start.

void silu_range(int64_t begin, int64_t end, const float* x, float* y) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i);
    hn::StoreU(hn::Mul(v, Sigmoid(d, v)), d, y + i);
  });
}

void silu_backward_range(int64_t begin, int64_t end, const float* x, const float* dy, float* dx) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto slope = SiluSlope(d, hn::LoadU(d, x + i));
    hn::StoreU(hn::MulAdd(hn::LoadU(d, dy + i), slope, hn::LoadU(d, dx + i)), d, dx + i);
  });
}

void sigmoid_range(int64_t begin, int64_t end, const float* x, float* y) {
  for_each_vector(begin, end,
                  [&](auto d, int64_t i) HWY_ATTR { hn::StoreU(Sigmoid(d, hn::LoadU(d, x + i)), d, y + i); });
}

void sigmoid_backward_range(int64_t begin, int64_t end, const float* y, const float* dy, float* dx) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, y + i);
    const auto slope = hn::Mul(v, hn::Sub(hn::Set(d, 1.0f), v));
    hn::StoreU(hn::MulAdd(hn::LoadU(d, dy + i), slope, hn::LoadU(d, dx + i)), d, dx + i);
  });
}

void tanh_range(int64_t begin, int64_t end, const float* x, float* y) {
  for_each_vector(begin, end,
                  [&](auto d, int64_t i) HWY_ATTR { hn::StoreU(Tanh(d, hn::LoadU(d, x + i)), d, y + i); });
}

void tanh_backward_range(int64_t begin, int64_t end, const float* y, const float* dy, float* dx) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, y + i);
    const auto slope = hn::NegMulAdd(v, v, hn::Set(d, 1.0f));
    hn::StoreU(hn::MulAdd(hn::LoadU(d, dy + i), slope, hn::LoadU(d, dx + i)), d, dx + i);
  });
}

void exp_range(int64_t begin, int64_t end, const float* x, float* y) {
  for_each_vector(begin, end,
                  [&](auto d, int64_t i) HWY_ATTR { hn::StoreU(Exp(d, hn::LoadU(d, x + i)), d, y + i); });
}

void gelu_range(int64_t begin, int64_t end, const float* x, float* y) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i);
    auto density = hn::Zero(d);
    hn::StoreU(hn::Mul(v, NormalShare(d, v, density)), d, y + i);
  });
}

// The slope is Φ(x) + x·φ(x).
void gelu_backward_range(int64_t begin, int64_t end, const float* x, const float* dy, float* dx) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i);
    auto density = hn::Zero(d);
    const auto share = NormalShare(d, v, density);
    const auto slope = hn::MulAdd(v, density, share);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, dy + i), slope, hn::LoadU(d, dx + i)), d, dx + i);
  });
}

void heavy_tail_range(int64_t begin, int64_t end, const float* x, float least, float* y) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i), one = hn::Set(d, 1.0f);
    const auto below = hn::Max(hn::Set(d, least), hn::Div(one, hn::Sub(one, v)));
    hn::StoreU(hn::IfThenElse(hn::Lt(v, hn::Zero(d)), below, hn::Add(one, v)), d, y + i);
  });
}

// The slope is 1 above, y² below, and 0 at the least.
void heavy_tail_backward_range(int64_t begin, int64_t end, const float* y, float least, const float* dy,
                               float* dx) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, y + i);
    const auto slope =
        hn::IfThenElseZero(hn::Gt(v, hn::Set(d, least)), hn::Min(hn::Set(d, 1.0f), hn::Mul(v, v)));
    hn::StoreU(hn::MulAdd(hn::LoadU(d, dy + i), slope, hn::LoadU(d, dx + i)), d, dx + i);
  });
}

void relu_range(int64_t begin, int64_t end, const float* x, float* y) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i);
    // In this form a NaN stays one: it is not less than zero.
    hn::StoreU(hn::IfThenZeroElse(hn::Lt(v, hn::Zero(d)), v), d, y + i);
  });
}

void relu_backward_range(int64_t begin, int64_t end, const float* x, const float* dy, float* dx) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto passed = hn::IfThenElseZero(hn::Gt(hn::LoadU(d, x + i), hn::Zero(d)), hn::LoadU(d, dy + i));
    hn::StoreU(hn::Add(hn::LoadU(d, dx + i), passed), d, dx + i);
  });
}

void swiglu_range(int64_t begin, int64_t end, const float* gate, const float* up, float* y) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto g = hn::LoadU(d, gate + i);
    hn::StoreU(hn::Mul(hn::Mul(g, Sigmoid(d, g)), hn::LoadU(d, up + i)), d, y + i);
  });
}

void swiglu_backward_range(int64_t begin, int64_t end, const float* gate, const float* up, const float* dy,
                           float* dgate, float* dup) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    const auto g = hn::LoadU(d, gate + i);
    const auto u = hn::LoadU(d, up + i);
    const auto out = hn::LoadU(d, dy + i);
    const auto sigmoid = Sigmoid(d, g);
    const auto silu = hn::Mul(g, sigmoid);
    const auto slope = hn::MulAdd(silu, hn::Sub(hn::Set(d, 1.0f), sigmoid), sigmoid);
    hn::StoreU(hn::MulAdd(hn::Mul(out, u), slope, hn::LoadU(d, dgate + i)), d, dgate + i);
    hn::StoreU(hn::MulAdd(out, silu, hn::LoadU(d, dup + i)), d, dup + i);
  });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(silu_range);
HWY_EXPORT(silu_backward_range);
HWY_EXPORT(sigmoid_range);
HWY_EXPORT(sigmoid_backward_range);
HWY_EXPORT(tanh_range);
HWY_EXPORT(tanh_backward_range);
HWY_EXPORT(exp_range);
HWY_EXPORT(gelu_range);
HWY_EXPORT(gelu_backward_range);
HWY_EXPORT(heavy_tail_range);
HWY_EXPORT(heavy_tail_backward_range);
HWY_EXPORT(relu_range);
HWY_EXPORT(relu_backward_range);
HWY_EXPORT(swiglu_range);
HWY_EXPORT(swiglu_backward_range);

void relu(int64_t n, const float* x, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(relu_range)(begin, end, x, y);
  });
}
void relu_backward(int64_t n, const float* x, const float* dy, float* dx) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(relu_backward_range)(begin, end, x, dy, dx);
  });
}

void silu(int64_t n, const float* x, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(silu_range)(begin, end, x, y);
  });
}

void silu_backward(int64_t n, const float* x, const float* dy, float* dx) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(silu_backward_range)(begin, end, x, dy, dx);
  });
}

void swiglu(int64_t n, const float* gate, const float* up, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(swiglu_range)(begin, end, gate, up, y);
  });
}

void swiglu_backward(int64_t n, const float* gate, const float* up, const float* dy, float* dgate,
                     float* dup) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(swiglu_backward_range)(begin, end, gate, up, dy, dgate, dup);
  });
}

void sigmoid(int64_t n, const float* x, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(sigmoid_range)(begin, end, x, y);
  });
}

void sigmoid_backward(int64_t n, const float* y, const float* dy, float* dx) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(sigmoid_backward_range)(begin, end, y, dy, dx);
  });
}

void tanh(int64_t n, const float* x, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(tanh_range)(begin, end, x, y);
  });
}

void tanh_backward(int64_t n, const float* y, const float* dy, float* dx) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(tanh_backward_range)(begin, end, y, dy, dx);
  });
}

void exp(int64_t n, const float* x, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(exp_range)(begin, end, x, y);
  });
}

void gelu(int64_t n, const float* x, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(gelu_range)(begin, end, x, y);
  });
}

void gelu_backward(int64_t n, const float* x, const float* dy, float* dx) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(gelu_backward_range)(begin, end, x, dy, dx);
  });
}

void heavy_tail(int64_t n, const float* x, float least, float* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(heavy_tail_range)(begin, end, x, least, y);
  });
}

void heavy_tail_backward(int64_t n, const float* y, float least, const float* dy, float* dx) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(heavy_tail_backward_range)(begin, end, y, least, dy, dx);
  });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
