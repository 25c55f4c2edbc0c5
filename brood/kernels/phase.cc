#include "brood/kernels/phase.h"

#include <algorithm>

#include "brood/kernels/bias.h"
#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/phase.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"
#include "brood/kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

constexpr float kTurn = 6.283185307f;  // radians

void phases_stream(const Phases& p, int64_t b, const float* in, float* phase, float* out) {
  const int64_t width = p.heads * p.n;
  const float* before = in + b * width;
  for (int64_t t = 0; t < p.T; ++t) {
    const int64_t row = b * p.T + t;
    const float *rate = p.rate.row(row), *delta = p.delta.row(row);
    float* now = phase + row * width;
    for (int64_t h = 0; h < p.heads; ++h)
      for_each_vector(0, p.n, [&](auto d, int64_t i) HWY_ATTR {
        const auto step = hn::Mul(hn::Set(d, 0.5f * delta[h]), hn::LoadU(d, rate + i));
        const auto moved = hn::Add(hn::LoadU(d, before + h * p.n + i), step);
        hn::StoreU(hn::Sub(moved, hn::Round(moved)), d, now + h * p.n + i);
      });
    before = now;
  }
  std::copy(before, before + width, out + b * width);
}

// along[t] = dphase[t] + along[t+1]: what a turn at step t is worth.
void phases_backward_stream(const Phases& p, int64_t b, const float* dphase, const float* dout,
                            float* along) {
  const int64_t width = p.heads * p.n;
  for (int64_t t = p.T; t-- > 0;) {
    const float* own = dphase + (b * p.T + t) * width;
    float* to = along + (b * p.T + t) * width;
    const float* later = t + 1 < p.T ? to + width : dout == nullptr ? nullptr : dout + b * width;
    for_each_vector(0, width, [&](auto d, int64_t i) HWY_ATTR {
      const auto g = hn::LoadU(d, own + i);
      hn::StoreU(later == nullptr ? g : hn::Add(g, hn::LoadU(d, later + i)), d, to + i);
    });
  }
}

void phases_backward_rows(const Phases& p, int64_t begin, int64_t end, const float* along, Rows drate,
                          Rows ddelta) {
  for (int64_t row = begin; row < end; ++row) {
    const float *rate = p.rate.row(row), *delta = p.delta.row(row);
    for (int64_t h = 0; h < p.heads; ++h) {
      const float* e = along + (row * p.heads + h) * p.n;
      if (ddelta.data != nullptr)
        ddelta.row(row)[h] += 0.5f * sum_over(p.n, [&](auto d, int64_t i, auto sum) HWY_ATTR {
                                return hn::MulAdd(hn::LoadU(d, e + i), hn::LoadU(d, rate + i), sum);
                              });
      if (drate.data == nullptr) continue;
      float* to = drate.row(row);
      for_each_vector(0, p.n, [&](auto d, int64_t i) HWY_ATTR {
        const auto g = hn::Mul(hn::Set(d, 0.5f * delta[h]), hn::LoadU(d, e + i));
        hn::StoreU(hn::Add(hn::LoadU(d, to + i), g), d, to + i);
      });
    }
  }
}

// (a, b) turned by φ into y, with the sine's sign as given: −1 turns back.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void Turn(D d, V a, V b, V phase, float sign, float* y) {
  V s = a, c = a;
  SineCosine(d, hn::Mul(phase, hn::Set(d, kTurn)), s, c);
  s = hn::Mul(s, hn::Set(d, sign));
  hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), d, y);
}

void rotary_rows(const PhaseRotary& r, int64_t begin, int64_t end, float* y) {
  const int64_t share = r.heads / r.groups;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t h = 0; h < r.heads; ++h) {
      const float *x = r.x.row(row) + h / share * r.N, *bias = r.bias + h * r.N;
      const float* phase = r.phase + (row * r.heads + h) * r.n;
      float* to = y + (row * r.heads + h) * r.N;
      for_each_vector(0, r.n, [&](auto d, int64_t i) HWY_ATTR {
        auto a = hn::Zero(d), b = hn::Zero(d), bias_a = hn::Zero(d), bias_b = hn::Zero(d);
        hn::LoadInterleaved2(d, x + 2 * i, a, b);
        hn::LoadInterleaved2(d, bias + 2 * i, bias_a, bias_b);
        Turn(d, hn::Add(a, bias_a), hn::Add(b, bias_b), hn::LoadU(d, phase + i), 1.0f, to + 2 * i);
      });
      for_each_vector(2 * r.n, r.N, [&](auto d, int64_t i) HWY_ATTR {
        hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, bias + i)), d, to + i);
      });
    }
  }
}

// dz = dy turned back; ∂y/∂φ is y a quarter turn on, so dφ = 2π (dy_2i+1 y_2i − dy_2i y_2i+1).
void rotary_backward_rows(const PhaseRotary& r, int64_t begin, int64_t end, const float* y, const float* dy,
                          Rows dx, float* dphase, float* dz) {
  const int64_t share = r.heads / r.groups;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t h = 0; h < r.heads; ++h) {
      const int64_t at = (row * r.heads + h) * r.N, pairs = (row * r.heads + h) * r.n;
      for_each_vector(0, r.n, [&](auto d, int64_t i) HWY_ATTR {
        auto a = hn::Zero(d), b = hn::Zero(d), da = hn::Zero(d), db = hn::Zero(d);
        hn::LoadInterleaved2(d, y + at + 2 * i, a, b);
        hn::LoadInterleaved2(d, dy + at + 2 * i, da, db);
        Turn(d, da, db, hn::LoadU(d, r.phase + pairs + i), -1.0f, dz + at + 2 * i);
        const auto slope = hn::NegMulAdd(da, b, hn::Mul(db, a));
        float* to = dphase + pairs + i;
        hn::StoreU(hn::MulAdd(hn::Set(d, kTurn), slope, hn::LoadU(d, to)), d, to);
      });
      std::copy(dy + at + 2 * r.n, dy + at + r.N, dz + at + 2 * r.n);
      if (dx.data == nullptr) continue;
      float* to = dx.row(row) + h / share * r.N;
      for_each_vector(0, r.N, [&](auto d, int64_t i) HWY_ATTR {
        hn::StoreU(hn::Add(hn::LoadU(d, to + i), hn::LoadU(d, dz + at + i)), d, to + i);
      });
    }
  }
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(phases_stream);
HWY_EXPORT(phases_backward_stream);
HWY_EXPORT(phases_backward_rows);
HWY_EXPORT(rotary_rows);
HWY_EXPORT(rotary_backward_rows);

void phases_forward(const Phases& phases, const float* in, float* phase, float* out) {
  parallel_rows(phases.B, phases.T * phases.heads * phases.n, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) HWY_DYNAMIC_DISPATCH(phases_stream)(phases, b, in, phase, out);
  });
}

void phases_backward(const Phases& phases, const float* dphase, const float* dout, Rows drate, Rows ddelta,
                     float* din, float* scratch) {
  const int64_t width = phases.heads * phases.n, rows = phases.B * phases.T;
  parallel_rows(phases.B, phases.T * width, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      HWY_DYNAMIC_DISPATCH(phases_backward_stream)(phases, b, dphase, dout, scratch);
  });
  parallel_rows(rows, width, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(phases_backward_rows)(phases, begin, end, scratch, drate, ddelta);
  });
  for (int64_t b = 0; din != nullptr && b < phases.B; ++b)
    for (int64_t i = 0; i < width; ++i) din[b * width + i] += scratch[b * phases.T * width + i];
}

void phase_rotary_forward(const PhaseRotary& rotary, float* y) {
  parallel_rows(rotary.rows, rotary.heads * rotary.N, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(rotary_rows)(rotary, begin, end, y);
  });
}

void phase_rotary_backward(const PhaseRotary& rotary, const float* y, const float* dy, Rows dx, float* dbias,
                           float* dphase, float* scratch) {
  const int64_t cols = rotary.heads * rotary.N;
  parallel_rows(rotary.rows, cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(rotary_backward_rows)(rotary, begin, end, y, dy, dx, dphase, scratch);
  });
  sum_rows(rotary.rows, cols, scratch, dbias);
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
