// The delta scan backward. With E_t the gradient of S_t and sa_t = S_{t−1}ᵀ a_t, back from the last step,
//
//   E_t += q_t dy_tᵀ         dq_t = S_t dy_t       dv_t  = E_tᵀ k_t        dk_t = E_t v_t
//   dw_t = Σ_p E_t∘S_{t−1}   db_t = E_t sa_t       dsa_t = E_tᵀ b_t        da_t = S_{t−1} dsa_t
//   E_{t−1} = diag(w_t) E_t + a_t dsa_tᵀ
//
// where E starts as the gradient of the final state and ends as that of the initial one.
//
// Most of these are sums over values, so here the state lies the other way round: a row for each value, keys
// along the vector lanes. Only dv and dsa are summed across lanes. From each stored state a tile of steps is
// run forward again, kBlock values at a time so that their trail of states stays near; sa
// comes from forward, so no value waits for another. Sizes are filled up with zeros to whole vectors.
#include <algorithm>
#include <cstring>
#include <utility>

#include "brood/kernels/delta_scan.h"
#include "brood/kernels/delta_scan_kept.h"
#include "brood/kernels/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/delta_scan_backward.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/four_vectors-inl.h"
#include "brood/kernels/vector_loop-inl.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_DELTA_SCAN_WORKPLACE_
#define BROOD_KERNELS_DELTA_SCAN_WORKPLACE_
namespace brood::kernels {

constexpr int64_t kBlock = 16;  // values
constexpr int64_t kSlot = 16;   // floats from one vector to the next, whatever its lanes

// A tile's rows of keys, [kDeltaCheckpoint][N] each, or their gradients.
struct DeltaKeys {
  float *q, *k, *w, *a, *b;
};

// Where a head is worked on. N and P are the scan's, filled up.
struct DeltaWorkplace {
  int64_t N, P;
  DeltaKeys in, gradient;
  float *v, *sa, *dy, *dv;      // [kDeltaCheckpoint][P]
  float* E;                     // [P][N]
  float* trail;                 // [kDeltaCheckpoint][kBlock][N]: a block's states before each step
  float *dv_lanes, *dsa_lanes;  // [kBlock][kSlot]

  DeltaWorkplace(const DeltaScan& s, Scratch& scratch)
      : N((s.N + kSlot - 1) / kSlot * kSlot), P((s.P + kBlock - 1) / kBlock * kBlock) {
    constexpr int64_t kSteps = kDeltaCheckpoint;
    float* free = scratch.get<float>(kSteps * (10 * N + 4 * P + kBlock * N) + P * N + 2 * kBlock * kSlot);
    const auto take = [&free](int64_t n) { return std::exchange(free, free + n); };
    for (DeltaKeys* keys : {&in, &gradient})
      for (float** rows : {&keys->q, &keys->k, &keys->w, &keys->a, &keys->b}) *rows = take(kSteps * N);
    for (float** rows : {&v, &sa, &dy, &dv}) *rows = take(kSteps * P);
    E = take(P * N);
    trail = take(kSteps * kBlock * N);
    dv_lanes = take(kBlock * kSlot);
    dsa_lanes = take(kBlock * kSlot);
  }
};

// One head of one stream.
struct DeltaHeadBackward {
  const DeltaScan& scan;
  int64_t b, h;
  const float* kept;
  ConstRows dy;
  const float* ds_out;
  const DeltaScanGradients& gradients;
  DeltaWorkplace place;
  int64_t state() const { return (b * scan.H + h) * scan.N * scan.P; }
};

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

using Lanes = hn::CappedTag<float, 16>;
using Vec = hn::Vec<Lanes>;
constexpr int64_t kLanes = int64_t(hn::MaxLanes(Lanes()));

// to[c][r] = from[r][c], or += when kAdd.
template <bool kAdd>
void transpose(int64_t rows, int64_t cols, const float* from, int64_t from_stride, float* to,
               int64_t to_stride) {
  int64_t whole_rows = 0, whole_cols = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<float, 4> d;
  whole_rows = rows / 4 * 4;
  whole_cols = cols / 4 * 4;
  const auto put = [&](hn::Vec<decltype(d)> v, float* at)
                       HWY_ATTR { hn::StoreU(kAdd ? hn::Add(hn::LoadU(d, at), v) : v, d, at); };
  for (int64_t r = 0; r < whole_rows; r += 4) {
    for (int64_t c = 0; c < whole_cols; c += 4) {
      const float* corner = from + r * from_stride + c;
      auto r0 = hn::LoadU(d, corner), r1 = hn::LoadU(d, corner + from_stride);
      auto r2 = hn::LoadU(d, corner + 2 * from_stride), r3 = hn::LoadU(d, corner + 3 * from_stride);
      TurnFour(d, r0, r1, r2, r3);
      float* at = to + c * to_stride + r;
      put(r0, at);
      put(r1, at + to_stride);
      put(r2, at + 2 * to_stride);
      put(r3, at + 3 * to_stride);
    }
  }
#endif
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) {
      float& at = to[c * to_stride + r];
      at = kAdd ? at + from[r * from_stride + c] : from[r * from_stride + c];
    }
  }
}

// to[i] = the sum of the lanes of slot i, for kBlock slots.
void fold_lanes(const float* slots, float* to) {
  const Lanes d;
  for (int64_t i = 0; i < kBlock; i += 4) {
    const float* at = slots + i * kSlot;
    SumsOfFour(d, hn::Load(d, at), hn::Load(d, at + kSlot), hn::Load(d, at + 2 * kSlot),
               hn::Load(d, at + 3 * kSlot), to + i);
  }
}

// Calls function(std::integral_constant<int, K>, n) for the vectors of keys that begin at n: K at a time,
// then one.
template <int K, class Function>
HWY_INLINE void over_keys(int64_t N, const Function& function) {
  int64_t n = 0;
  for (; n + K * kLanes <= N; n += K * kLanes) function(std::integral_constant<int, K>(), n);
  for (; n < N; n += kLanes) function(std::integral_constant<int, 1>(), n);
}

// The loops below hold sizes and addresses in variables of their own: the compiler must think that a store of
// a vector changes whatever else lies in memory.

// One step forward of the block of values at p, for K vectors of keys; dq on the way, while S_t is at hand.
template <int K, bool kLast>
HWY_INLINE void recompute(const DeltaWorkplace& w, int64_t t, int64_t p, int64_t n) {
  const Lanes d;
  const int64_t N = w.N, at = t * N + n;
  Vec decay[K], key[K], back[K], dq[K];
  for (int j = 0; j < K; ++j) {
    decay[j] = hn::Load(d, w.in.w + at + j * kLanes);
    key[j] = hn::Load(d, w.in.k + at + j * kLanes);
    back[j] = hn::Load(d, w.in.b + at + j * kLanes);
    dq[j] = hn::Load(d, w.gradient.q + at + j * kLanes);
  }
  const float *v = w.v + t * w.P + p, *sa = w.sa + t * w.P + p, *dy = w.dy + t * w.P + p;
  const float* from = w.trail + t * kBlock * N + n;
  float* to = w.trail + (t + 1) * kBlock * N + n;
  for (int64_t r = 0; r < kBlock; ++r, from += N, to += N) {
    const Vec value = hn::Set(d, v[r]), read = hn::Set(d, sa[r]), slope = hn::Set(d, dy[r]);
    for (int j = 0; j < K; ++j) {
      Vec S = hn::Mul(decay[j], hn::Load(d, from + j * kLanes));
      S = hn::MulAdd(key[j], value, hn::MulAdd(back[j], read, S));
      if constexpr (!kLast) hn::Store(S, d, to + j * kLanes);
      dq[j] = hn::MulAdd(slope, S, dq[j]);
    }
  }
  for (int j = 0; j < K; ++j) hn::Store(dq[j], d, w.gradient.q + at + j * kLanes);
}

// E_t, and of dv_t and dsa_t what K vectors of keys give, by lane; onto what is there unless they are the
// first.
template <int K, bool kFirst>
HWY_INLINE void receive(const DeltaWorkplace& w, int64_t t, int64_t p, int64_t n) {
  const Lanes d;
  const int64_t N = w.N, at = t * N + n;
  Vec query[K], key[K], back[K];
  for (int j = 0; j < K; ++j) {
    query[j] = hn::Load(d, w.in.q + at + j * kLanes);
    key[j] = hn::Load(d, w.in.k + at + j * kLanes);
    back[j] = hn::Load(d, w.in.b + at + j * kLanes);
  }
  const float* dy = w.dy + t * w.P + p;
  float *E_row = w.E + p * N + n, *dv_lanes = w.dv_lanes, *dsa_lanes = w.dsa_lanes;
  for (int64_t r = 0; r < kBlock; ++r, E_row += N) {
    const Vec slope = hn::Set(d, dy[r]);
    Vec dv = kFirst ? hn::Zero(d) : hn::Load(d, dv_lanes + r * kSlot);
    Vec dsa = kFirst ? hn::Zero(d) : hn::Load(d, dsa_lanes + r * kSlot);
    for (int j = 0; j < K; ++j) {
      const Vec E = hn::MulAdd(slope, query[j], hn::Load(d, E_row + j * kLanes));
      hn::Store(E, d, E_row + j * kLanes);
      dv = hn::MulAdd(E, key[j], dv);
      dsa = hn::MulAdd(E, back[j], dsa);
    }
    hn::Store(dv, d, dv_lanes + r * kSlot);
    hn::Store(dsa, d, dsa_lanes + r * kSlot);
  }
}

// dk, dw, da, db of K vectors of keys, and E handed to the step before.
template <int K>
HWY_INLINE void reverse(const DeltaWorkplace& w, int64_t t, int64_t p, int64_t n, const float* dsa) {
  const Lanes d;
  const int64_t N = w.N, at = t * N + n;
  Vec decay[K], reader[K], dk[K], dw[K], da[K], db[K];
  for (int j = 0; j < K; ++j) {
    decay[j] = hn::Load(d, w.in.w + at + j * kLanes);
    reader[j] = hn::Load(d, w.in.a + at + j * kLanes);
    dk[j] = hn::Load(d, w.gradient.k + at + j * kLanes);
    dw[j] = hn::Load(d, w.gradient.w + at + j * kLanes);
    da[j] = hn::Load(d, w.gradient.a + at + j * kLanes);
    db[j] = hn::Load(d, w.gradient.b + at + j * kLanes);
  }
  const float *v = w.v + t * w.P + p, *sa = w.sa + t * w.P + p, *trail = w.trail + t * kBlock * N + n;
  float* E_row = w.E + p * N + n;
  for (int64_t r = 0; r < kBlock; ++r, E_row += N, trail += N) {
    const Vec value = hn::Set(d, v[r]), read = hn::Set(d, sa[r]), slope = hn::Set(d, dsa[r]);
    for (int j = 0; j < K; ++j) {
      const Vec E = hn::Load(d, E_row + j * kLanes), S = hn::Load(d, trail + j * kLanes);
      dk[j] = hn::MulAdd(E, value, dk[j]);
      db[j] = hn::MulAdd(E, read, db[j]);
      dw[j] = hn::MulAdd(E, S, dw[j]);
      da[j] = hn::MulAdd(S, slope, da[j]);
      hn::Store(hn::MulAdd(decay[j], E, hn::Mul(reader[j], slope)), d, E_row + j * kLanes);
    }
  }
  for (int j = 0; j < K; ++j) {
    hn::Store(dk[j], d, w.gradient.k + at + j * kLanes);
    hn::Store(dw[j], d, w.gradient.w + at + j * kLanes);
    hn::Store(da[j], d, w.gradient.a + at + j * kLanes);
    hn::Store(db[j], d, w.gradient.b + at + j * kLanes);
  }
}

void backward_block(const DeltaWorkplace& w, int64_t steps, int64_t p) {
  HWY_ALIGN float dsa[kBlock];
  for (int64_t t = 0; t + 1 < steps; ++t)
    over_keys<4>(w.N, [&](auto K, int64_t n) HWY_ATTR { recompute<K, false>(w, t, p, n); });
  over_keys<4>(w.N, [&](auto K, int64_t n) HWY_ATTR { recompute<K, true>(w, steps - 1, p, n); });
  for (int64_t t = steps - 1; t >= 0; --t) {
    over_keys<4>(w.N, [&](auto K, int64_t n) HWY_ATTR {
      n == 0 ? receive<K, true>(w, t, p, n) : receive<K, false>(w, t, p, n);
    });
    fold_lanes(w.dv_lanes, w.dv + t * w.P + p);
    fold_lanes(w.dsa_lanes, dsa);
    over_keys<2>(w.N, [&](auto K, int64_t n) HWY_ATTR { reverse<K>(w, t, p, n, dsa); });
  }
}

// Steps of [·, width] rows into a tile [steps][filled], the rest zero.
void take_rows(int64_t steps, int64_t width, int64_t filled, const float* from, int64_t stride, float* to) {
  for (int64_t t = 0; t < steps; ++t) {
    for_each_vector(0, width, [&](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::LoadU(d, from + t * stride + i), d, to + t * filled + i);
    });
    std::fill(to + t * filled + width, to + (t + 1) * filled, 0.0f);
  }
}

void add_rows(int64_t steps, int64_t width, int64_t filled, const float* from, float* to, int64_t stride) {
  for (int64_t t = 0; t < steps; ++t) {
    for_each_vector(0, width, [&](auto d, int64_t i) HWY_ATTR {
      float* at = to + t * stride + i;
      hn::StoreU(hn::Add(hn::LoadU(d, at), hn::LoadU(d, from + t * filled + i)), d, at);
    });
  }
}

void take_tile(const DeltaHeadBackward& head, int64_t row, int64_t steps) {
  const DeltaScan& s = head.scan;
  const DeltaWorkplace& w = head.place;
  const auto keys = [&](ConstRows from, float* to) {
    take_rows(steps, s.N, w.N, from.row(row) + head.h * s.N, from.stride, to);
  };
  keys(s.q, w.in.q);
  keys(s.k, w.in.k);
  keys(s.a, w.in.a);
  keys(s.b, w.in.b);
  if (s.w_per_head) {
    for (int64_t t = 0; t < steps; ++t) std::fill_n(w.in.w + t * w.N, w.N, s.w.row(row + t)[head.h]);
  } else {
    keys(s.w, w.in.w);
  }
  take_rows(steps, s.P, w.P, s.v.row(row) + head.h * s.P, s.v.stride, w.v);
  take_rows(steps, s.P, w.P, head.dy.row(row) + head.h * s.P, head.dy.stride, w.dy);
  take_rows(steps, s.P, w.P, head.kept + kept_delta_read(s, row, head.h), s.H * s.P, w.sa);
  for (float* gradient : {w.gradient.q, w.gradient.k, w.gradient.w, w.gradient.a, w.gradient.b})
    std::fill_n(gradient, steps * w.N, 0.0f);
}

void give_tile(const DeltaHeadBackward& head, int64_t row, int64_t steps) {
  const DeltaScan& s = head.scan;
  const DeltaWorkplace& w = head.place;
  const DeltaScanGradients& g = head.gradients;
  const auto keys = [&](Rows to, const float* from) {
    if (to.data != nullptr) add_rows(steps, s.N, w.N, from, to.row(row) + head.h * s.N, to.stride);
  };
  keys(g.q, w.gradient.q);
  keys(g.k, w.gradient.k);
  keys(g.a, w.gradient.a);
  keys(g.b, w.gradient.b);
  if (!s.w_per_head) {
    keys(g.w, w.gradient.w);
  } else if (g.w.data != nullptr) {
    for (int64_t t = 0; t < steps; ++t) {
      const float* dw = w.gradient.w + t * w.N;
      g.w.row(row + t)[head.h] += sum_over(
          s.N, [&](auto d, int64_t n, auto sum) HWY_ATTR { return hn::Add(sum, hn::LoadU(d, dw + n)); });
    }
  }
  if (g.v.data != nullptr) add_rows(steps, s.P, w.P, w.dv, g.v.row(row) + head.h * s.P, g.v.stride);
}

void backward_head(const DeltaHeadBackward& head) {
  const DeltaScan& s = head.scan;
  const DeltaWorkplace& w = head.place;
  if (head.ds_out == nullptr || s.N < w.N || s.P < w.P) std::fill_n(w.E, w.P * w.N, 0.0f);
  if (head.ds_out != nullptr) transpose<false>(s.N, s.P, head.ds_out + head.state(), s.P, w.E, w.N);
  for (int64_t tile = delta_tiles(s) - 1; tile >= 0; --tile) {
    const int64_t first = tile * kDeltaCheckpoint, steps = std::min(kDeltaCheckpoint, s.T - first);
    const float* start =
        tile == 0 ? s.s_in + head.state() : head.kept + kept_delta_state(s, head.b, head.h, tile);
    take_tile(head, head.b * s.T + first, steps);
    for (int64_t p = 0; p < w.P; p += kBlock) {
      const int64_t count = std::min(kBlock, s.P - p);
      if (count < kBlock) std::fill_n(w.trail, kBlock * w.N, 0.0f);
      transpose<false>(s.N, count, start + p, s.P, w.trail, w.N);
      backward_block(w, steps, p);
    }
    give_tile(head, head.b * s.T + first, steps);
  }
  if (head.gradients.s_in != nullptr)
    transpose<true>(s.P, s.N, w.E, w.N, head.gradients.s_in + head.state(), s.P);
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(backward_head);

void delta_scan_backward(const DeltaScan& s, const float* kept, ConstRows dy, const float* ds_out,
                         const DeltaScanGradients& gradients) {
  constexpr int64_t kInlineElements = 50'000;  // some 0.25 ns each
  const auto backward = HWY_DYNAMIC_DISPATCH(backward_head);
  for_every_delta_task(s, kInlineElements, [&](int64_t b, int64_t h) {
    thread_local Scratch scratch;
    backward({s, b, h, kept, dy, ds_out, gradients, DeltaWorkplace(s, scratch)});
  });
}

}  // namespace brood::kernels
#endif
