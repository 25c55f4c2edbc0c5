// RWKV-4's average, forward and backward, a vector of channels at a time through all steps.
//
// With q = max(p, u + k) and p' = max(p − w, k), the stable form is
//
//   e1 = e^{p−q}   e2 = e^{u+k−q}       y  = (e1 a + e2 v) / (e1 b + e2)
//   f1 = e^{p−w−p'}   f2 = e^{k−p'}     a' = f1 a + f2 v    b' = f1 b + f2
//
// and of each pair one exponential is 1. Backward, da and db being the gradients of a' and b':
//
//   z = dy / (e1 b + e2)
//   dv = e2 z + f2 da        d(u + k) = e2 z (v − y)      dk = d(u + k) + f2 (v da + db)
//   dw = −f1 (a da + b db)   da ← f1 da + e1 z            db ← f1 db − e1 z y
#include "brood/kernels/wkv4.h"

#include <algorithm>

#include "brood/kernels/channel_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/wkv4.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/vector_loop-inl.h"
#include "brood/kernels/vector_math-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_WKV4_TILES_
#define BROOD_KERNELS_WKV4_TILES_
namespace brood::kernels {

constexpr int64_t kSlot = 16;  // floats from one vector to the next, whatever its lanes
constexpr int64_t kTile = kWkv4Checkpoint;

inline int64_t wkv4_tiles(const Wkv4& s) { return (s.T + kTile - 1) / kTile; }

// The offset of the state of stream b before tile 1, 2, … (that before tile 0 is s_in).
inline int64_t kept_wkv4_state(const Wkv4& s, int64_t b, int64_t tile) {
  return (b * (wkv4_tiles(s) - 1) + tile - 1) * 3 * s.C;
}

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

template <class V>
struct Average {
  V a, b, p;
};

// Two weights, e^{x−m} and e^{y−m} with m the greater of x and y.
template <class V>
struct Weights {
  V old, fresh;
};
template <class D, class V = hn::Vec<D>>
HWY_INLINE Weights<V> weigh(D d, V x, V y) {
  const V apart = hn::Sub(x, y), one = hn::Set(d, 1.0f);
  const V smaller = Exp(d, hn::Neg(hn::Abs(apart)));
  const auto old_leads = hn::Gt(apart, hn::Zero(d));
  return {hn::IfThenElse(old_leads, one, smaller), hn::IfThenElse(old_leads, smaller, one)};
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE Average<V> load(D d, const Wkv4& s, const float* state, int64_t c) {
  Average<V> x{hn::LoadU(d, state + c), hn::LoadU(d, state + s.C + c), hn::LoadU(d, state + 2 * s.C + c)};
  // Below every sum of keys and decays, and far from infinity: differences stay numbers.
  x.p = hn::IfThenElse(hn::Eq(x.b, hn::Zero(d)), hn::Set(d, -1e38f), x.p);
  return x;
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE void store(D d, const Wkv4& s, Average<V> x, float* state, int64_t c) {
  hn::StoreU(x.a, d, state + c);
  hn::StoreU(x.b, d, state + s.C + c);
  hn::StoreU(x.p, d, state + 2 * s.C + c);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE void add_to(D d, V x, float* at) {
  hn::StoreU(hn::Add(hn::LoadU(d, at), x), d, at);
}

// Rows lie C numbers apart, too far for the processor to guess the next one.
HWY_INLINE void prefetch_step(const Wkv4& s, int64_t row, int64_t c, const float* y) {
  hwy::Prefetch(s.k.row(row) + c);
  hwy::Prefetch(s.v.row(row) + c);
  hwy::Prefetch(y);
}

// The average after a step; its weights are left in f.
template <class D, class V = hn::Vec<D>>
HWY_INLINE Average<V> advance(D d, Average<V> x, V decay, V k, V v, Weights<V>& f) {
  const V faded = hn::Sub(x.p, decay);
  f = weigh(d, faded, k);
  return {hn::MulAdd(f.old, x.a, hn::Mul(f.fresh, v)), hn::MulAdd(f.old, x.b, f.fresh), hn::Max(faded, k)};
}

// All steps of stream b for the channels [begin, end).
void average_forward(const Wkv4& s, int64_t b, int64_t begin, int64_t end, Rows y, float* s_out,
                     float* kept) {
  for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
    using V = hn::Vec<decltype(d)>;
    const V decay = Exp(d, hn::LoadU(d, s.log_w + c)), bonus = hn::LoadU(d, s.u + c);
    Average<V> x = load(d, s, s.s_in + b * 3 * s.C, c);
    for (int64_t t = 0; t < s.T; ++t) {
      if (kept != nullptr && t > 0 && t % kTile == 0)
        store(d, s, x, kept + kept_wkv4_state(s, b, t / kTile), c);
      const int64_t row = b * s.T + t;
      if (t + kTile < s.T) prefetch_step(s, row + kTile, c, y.row(row + kTile) + c);
      const V k = hn::LoadU(d, s.k.row(row) + c), v = hn::LoadU(d, s.v.row(row) + c);
      const Weights<V> e = weigh(d, x.p, hn::Add(bonus, k));
      const V above = hn::MulAdd(e.old, x.a, hn::Mul(e.fresh, v));
      hn::StoreU(hn::Div(above, hn::MulAdd(e.old, x.b, e.fresh)), d, y.row(row) + c);
      Weights<V> f;
      x = advance(d, x, decay, k, v, f);
    }
    store(d, s, x, s_out + b * 3 * s.C, c);
  });
}

// What one step gave, for a vector of channels.
struct Trace {
  HWY_ALIGN float a[kSlot], b[kSlot];  // before the step
  HWY_ALIGN float e_old[kSlot], e_fresh[kSlot], f_old[kSlot], f_fresh[kSlot];
  HWY_ALIGN float y[kSlot], inverse[kSlot];  // inverse: 1 / (e1 b + e2)
};

// The steps of a tile again; the rows of the tile before are called for.
template <class D>
void recompute(D d, const Wkv4& s, int64_t row, int64_t steps, int64_t c, const float* start, ConstRows dy,
               const Wkv4Gradients& gradients, Trace* traces) {
  using V = hn::Vec<D>;
  const V decay = Exp(d, hn::LoadU(d, s.log_w + c)), bonus = hn::LoadU(d, s.u + c);
  Average<V> x = load(d, s, start, c);
  for (int64_t t = 0; t < steps; ++t) {
    Trace& trace = traces[t];
    if (row % s.T != 0) {
      const int64_t before = row + t - kTile;
      prefetch_step(s, before, c, dy.row(before) + c);
      if (gradients.k.data != nullptr) hwy::Prefetch(gradients.k.row(before) + c);
      if (gradients.v.data != nullptr) hwy::Prefetch(gradients.v.row(before) + c);
    }
    const V k = hn::LoadU(d, s.k.row(row + t) + c), v = hn::LoadU(d, s.v.row(row + t) + c);
    const Weights<V> e = weigh(d, x.p, hn::Add(bonus, k));
    const V inverse = hn::Div(hn::Set(d, 1.0f), hn::MulAdd(e.old, x.b, e.fresh));
    hn::Store(x.a, d, trace.a);
    hn::Store(x.b, d, trace.b);
    hn::Store(e.old, d, trace.e_old);
    hn::Store(e.fresh, d, trace.e_fresh);
    hn::Store(inverse, d, trace.inverse);
    hn::Store(hn::Mul(hn::MulAdd(e.old, x.a, hn::Mul(e.fresh, v)), inverse), d, trace.y);
    Weights<V> f;
    x = advance(d, x, decay, k, v, f);
    hn::Store(f.old, d, trace.f_old);
    hn::Store(f.fresh, d, trace.f_fresh);
  }
}

// The gradients that go from tile to tile.
template <class V>
struct Carried {
  V da, db;  // of the state behind
  V dw, du;
};

template <class D, class V = hn::Vec<D>>
void reverse(D d, const Wkv4& s, int64_t row, int64_t steps, int64_t c, const Trace* traces, ConstRows dy,
             const Wkv4Gradients& gradients, Carried<V>& g) {
  for (int64_t t = steps - 1; t >= 0; --t) {
    const Trace& trace = traces[t];
    const V v = hn::LoadU(d, s.v.row(row + t) + c), y = hn::Load(d, trace.y);
    const V z = hn::Mul(hn::LoadU(d, dy.row(row + t) + c), hn::Load(d, trace.inverse));
    const V fresh = hn::Mul(hn::Load(d, trace.e_fresh), z), f_fresh = hn::Load(d, trace.f_fresh);
    const V du = hn::Mul(fresh, hn::Sub(v, y));
    if (gradients.v.data != nullptr)
      add_to(d, hn::MulAdd(f_fresh, g.da, fresh), gradients.v.row(row + t) + c);
    if (gradients.k.data != nullptr)
      add_to(d, hn::MulAdd(f_fresh, hn::MulAdd(v, g.da, g.db), du), gradients.k.row(row + t) + c);
    g.du = hn::Add(g.du, du);
    const V f_old = hn::Load(d, trace.f_old), old = hn::Mul(hn::Load(d, trace.e_old), z);
    const V fading = hn::MulAdd(hn::Load(d, trace.a), g.da, hn::Mul(hn::Load(d, trace.b), g.db));
    g.dw = hn::NegMulAdd(f_old, fading, g.dw);
    g.da = hn::MulAdd(f_old, g.da, old);
    g.db = hn::NegMulAdd(old, y, hn::Mul(f_old, g.db));
  }
}

// All streams, one after the other, for the channels [begin, end): what they share is added up in order.
void average_backward(const Wkv4& s, int64_t begin, int64_t end, const float* kept, ConstRows dy,
                      const float* ds_out, const Wkv4Gradients& gradients) {
  Trace traces[kTile];
  for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
    using V = hn::Vec<decltype(d)>;
    const V zero = hn::Zero(d);
    Carried<V> g{zero, zero, zero, zero};
    for (int64_t b = 0; b < s.B; ++b) {
      const int64_t state = b * 3 * s.C;
      g.da = ds_out == nullptr ? zero : hn::LoadU(d, ds_out + state + c);
      g.db = ds_out == nullptr ? zero : hn::LoadU(d, ds_out + state + s.C + c);
      for (int64_t tile = wkv4_tiles(s) - 1; tile >= 0; --tile) {
        const int64_t row = b * s.T + tile * kTile, steps = std::min(kTile, s.T - tile * kTile);
        const float* start = tile == 0 ? s.s_in + state : kept + kept_wkv4_state(s, b, tile);
        recompute(d, s, row, steps, c, start, dy, gradients, traces);
        reverse(d, s, row, steps, c, traces, dy, gradients, g);
      }
      if (gradients.s_in == nullptr) continue;
      float* to = gradients.s_in + state + c;
      const V by_a = hn::Mul(hn::LoadU(d, s.s_in + state + c), g.da);
      add_to(d, hn::MulAdd(hn::LoadU(d, s.s_in + state + s.C + c), g.db, by_a), to + 2 * s.C);
      add_to(d, g.da, to);
      add_to(d, g.db, to + s.C);
    }
    if (gradients.log_w != nullptr)
      add_to(d, hn::Mul(g.dw, Exp(d, hn::LoadU(d, s.log_w + c))), gradients.log_w + c);
    if (gradients.u != nullptr) add_to(d, g.du, gradients.u + c);
  });
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(average_forward);
HWY_EXPORT(average_backward);

int64_t wkv4_kept_size(const Wkv4& s) { return kept_wkv4_state(s, s.B, 1); }

void wkv4_forward(const Wkv4& s, Rows y, float* s_out, float* kept) {
  const bool pays = s.B * s.T * s.C >= 20'000;  // some 1 ns each
  const auto forward = HWY_DYNAMIC_DISPATCH(average_forward);
  for_every_channel_block(s.B, s.C, kChannelBlock, pays, [&](int64_t b, int64_t begin, int64_t end) {
    forward(s, b, begin, end, y, s_out, kept);
  });
}

void wkv4_backward(const Wkv4& s, const float* kept, ConstRows dy, const float* ds_out,
                   const Wkv4Gradients& gradients) {
  const bool pays = s.B * s.T * s.C >= 15'000;  // some 1.3 ns each
  const auto backward = HWY_DYNAMIC_DISPATCH(average_backward);
  for_every_channel_block(1, s.C, kChannelBlock, pays, [&](int64_t, int64_t begin, int64_t end) {
    backward(s, begin, end, kept, dy, ds_out, gradients);
  });
}

}  // namespace brood::kernels
#endif
