// The delta scan forward. A strip of values of one head goes through all steps with its state in the
// first-level cache. One pass over the state makes a step: while S_t is in registers it is read for y_t and,
// for the next step, for sa_{t+1}; only the first sa needs a pass of its own. Both ways of making sa add up
// the keys in the same order, so that a cut changes nothing.
#include "brood/kernels/delta_scan.h"

#include "brood/kernels/delta_scan_kept.h"
#include "brood/kernels/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/delta_scan.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "hwy/cache_control.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_DELTA_SCAN_HEAD_
#define BROOD_KERNELS_DELTA_SCAN_HEAD_
namespace brood::kernels {

// One head of one stream.
struct DeltaHead {
  const DeltaScan& scan;
  int64_t b, h;
  Rows y;
  float* s_out;
  float* kept;
  float* near;  // room for a strip of the state, N·kStripFloats
  int64_t state() const { return (b * scan.H + h) * scan.N * scan.P; }
};

constexpr int64_t kStripFloats = 64;
constexpr int64_t kAhead = 2;  // steps from a prefetch to its use

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// N rows of a strip of the state.
struct State {
  float* data;
  int64_t stride;
};
struct ConstState {
  const float* data;
  int64_t stride;
};

// What a step takes from its row, at its head.
struct Step {
  const float *q, *k, *w, *b;
  int64_t w_step;       // 0: one w for all keys
  const float* a_next;  // a of the step after
};

// sa = S aᵀ for K vectors of values.
template <int K, class D, class V = hn::Vec<D>>
HWY_INLINE void first_read(D d, int64_t N, ConstState from, const float* a, V (&sa)[K]) {
  const int64_t lanes = int64_t(hn::Lanes(d));
  for (int j = 0; j < K; ++j) sa[j] = hn::Zero(d);
  for (int64_t n = 0; n < N; ++n) {
    const V weight = hn::Set(d, a[n]);
    for (int j = 0; j < K; ++j)
      sa[j] = hn::MulAdd(weight, hn::LoadU(d, from.data + n * from.stride + j * lanes), sa[j]);
  }
}

// S → S_t, y_t, and sa for the next step when there is one.
template <bool kNext, int K, class D, class V = hn::Vec<D>>
HWY_INLINE void advance(D d, int64_t N, const Step& step, const float* v, ConstState from, State to,
                        V (&sa)[K], float* y) {
  const int64_t lanes = int64_t(hn::Lanes(d));
  V value[K], sum[K], next[K];
  for (int j = 0; j < K; ++j) {
    value[j] = hn::LoadU(d, v + j * lanes);
    sum[j] = next[j] = hn::Zero(d);
  }
  for (int64_t n = 0; n < N; ++n) {
    // Decoding goes from head to head: the next one's state is on its way while this one's is worked on.
    if constexpr (!kNext)
      for (int j = 0; j < K; ++j) hwy::Prefetch(from.data + (N + n) * from.stride + j * lanes);
    const V decay = hn::Set(d, step.w[n * step.w_step]), key = hn::Set(d, step.k[n]);
    const V back = hn::Set(d, step.b[n]), query = hn::Set(d, step.q[n]);
    for (int j = 0; j < K; ++j) {
      V S = hn::Mul(decay, hn::LoadU(d, from.data + n * from.stride + j * lanes));
      S = hn::MulAdd(key, value[j], hn::MulAdd(back, sa[j], S));
      hn::StoreU(S, d, to.data + n * to.stride + j * lanes);
      sum[j] = hn::MulAdd(query, S, sum[j]);
      if constexpr (kNext) next[j] = hn::MulAdd(hn::Set(d, step.a_next[n]), S, next[j]);
    }
  }
  for (int j = 0; j < K; ++j) {
    hn::StoreU(sum[j], d, y + j * lanes);
    sa[j] = next[j];
  }
}

template <int K, class D>
void copy_strip(D d, int64_t N, ConstState from, State to) {
  const int64_t lanes = int64_t(hn::Lanes(d));
  for (int64_t n = 0; n < N; ++n)
    for (int j = 0; j < K; ++j)
      hn::StoreU(hn::LoadU(d, from.data + n * from.stride + j * lanes), d,
                 to.data + n * to.stride + j * lanes);
}

// Rows lie H·N numbers apart, too far for the processor to guess the next one.
HWY_INLINE void prefetch_row(const DeltaHead& head, int64_t row, int64_t key_at, int64_t value_at,
                             int64_t values) {
  const DeltaScan& s = head.scan;
  for (const ConstRows* rows : {&s.q, &s.k, &s.w, &s.a, &s.b}) {
    if (rows == &s.w && s.w_per_head) continue;
    const float* at = rows->row(row) + key_at;
    for (int64_t n = 0; n < s.N; n += 16) hwy::Prefetch(at + n);
  }
  for (int64_t p = 0; p < values; p += 16) {
    hwy::Prefetch(s.v.row(row) + value_at + p);
    hwy::Prefetch(head.y.row(row) + value_at + p);
  }
}

// All steps for the K vectors of values at p. The state is brought together in near memory when its rows lie
// further apart than the strip is wide: they would fall on few sets of the cache.
template <int K, class D>
void scan_strip(D d, const DeltaHead& head, int64_t p) {
  const DeltaScan& s = head.scan;
  const int64_t lanes = int64_t(hn::Lanes(d)), key_at = head.h * s.N, value_at = head.h * s.P + p;
  const ConstState start{s.s_in + head.state() + p, s.P};
  const State end{head.s_out + head.state() + p, s.P};
  const State middle = s.P == K * lanes ? end : State{head.near, K * lanes};
  int64_t row = head.b * s.T;
  hn::Vec<D> sa[K];
  first_read(d, s.N, start, s.a.row(row) + key_at, sa);
  ConstState from = start;
  for (int64_t t = 0; t < s.T; ++t, ++row) {
    const bool last = t + 1 == s.T;
    if (t + kAhead < s.T) prefetch_row(head, row + kAhead, key_at, value_at, K * lanes);
    if (head.kept != nullptr) {
      float* read = head.kept + kept_delta_read(s, row, head.h) + p;
      for (int j = 0; j < K; ++j) hn::StoreU(sa[j], d, read + j * lanes);
      if (t > 0 && t % kDeltaCheckpoint == 0)
        copy_strip<K>(d, s.N, from,
                      {head.kept + kept_delta_state(s, head.b, head.h, t / kDeltaCheckpoint) + p, s.P});
    }
    const Step step{
        s.q.row(row) + key_at, s.k.row(row) + key_at, s.w.row(row) + (s.w_per_head ? head.h : key_at),
        s.b.row(row) + key_at, s.w_per_head ? 0 : 1,  last ? nullptr : s.a.row(row + 1) + key_at};
    const float* v = s.v.row(row) + value_at;
    float* y = head.y.row(row) + value_at;
    if (last) {
      advance<false>(d, s.N, step, v, from, end, sa, y);
    } else {
      advance<true>(d, s.N, step, v, from, middle, sa, y);
      from = {middle.data, middle.stride};
    }
  }
}

// As many vectors as leave registers for y, sa, the next sa and v of each.
void scan_head(const DeltaHead& head) {
  const hn::CappedTag<float, 16> d;
  const hn::CappedTag<float, 4> d4;
  const hn::CappedTag<float, 1> d1;
  constexpr int64_t kLanes = int64_t(hn::MaxLanes(d)), kFew = int64_t(hn::MaxLanes(d4));
  constexpr int kVectors = kLanes == 16 ? 4 : 2;
  static_assert(kVectors * kLanes <= kStripFloats);
  const int64_t P = head.scan.P;
  int64_t p = 0;
  for (; p + kVectors * kLanes <= P; p += kVectors * kLanes) scan_strip<kVectors>(d, head, p);
  for (; p + kLanes <= P; p += kLanes) scan_strip<1>(d, head, p);
  for (; p + kFew <= P; p += kFew) scan_strip<1>(d4, head, p);
  for (; p < P; ++p) scan_strip<1>(d1, head, p);
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(scan_head);

int64_t delta_scan_kept_size(const DeltaScan& s) { return kept_delta_read(s, s.B * s.T, 0); }

void delta_scan_forward(const DeltaScan& s, Rows y, float* s_out, float* kept) {
  constexpr int64_t kInlineElements = 200'000;  // some 0.07 ns each
  const auto scan = HWY_DYNAMIC_DISPATCH(scan_head);
  for_every_delta_task(s, kInlineElements, [&](int64_t b, int64_t h) {
    thread_local Scratch scratch;
    scan({s, b, h, y, s_out, kept, scratch.get<float>(s.N * kStripFloats)});
  });
}

}  // namespace brood::kernels
#endif
