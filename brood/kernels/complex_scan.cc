// The scan of complex modes, forward and backward. A vector of channels goes through a tile of steps one mode
// (or two) at a time: the mode's numbers stay in registers, y of the tile in the first-level cache. A step or
// three (decoding, live learning) meet every number once, so they go through memory in its own order, mode by
// mode. Either way y adds up its modes in the same order.
//
// Backward, with g the gradient of h (z̄ is the conjugate):
//
//   g_t = 2 C̄ dy_t + Ā g_{t+1}
//   dA = Σ_t g_t h̄_{t−1}     dB = Σ_t g_t u_t     dC = 2 Σ_t dy_t h̄_t     dD = Σ_t dy_t u_t
//   du_t = D dy_t + Σ_n Re(B̄ g_t)
//
// where Ā g starts as the gradient of the final state and ends as that of the initial one. The states of a
// tile are computed again from the one kept before it.
#include "brood/kernels/complex_scan.h"

#include <algorithm>

#include "brood/kernels/channel_blocks.h"
#include "brood/kernels/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/complex_scan.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/complex-inl.h"
#include "brood/kernels/vector_loop-inl.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_COMPLEX_SCAN_TILES_
#define BROOD_KERNELS_COMPLEX_SCAN_TILES_
namespace brood::kernels {

constexpr int64_t kSlot = 16;  // floats from one vector to the next, whatever its lanes
constexpr int64_t kTile = kComplexCheckpoint;

constexpr int64_t kFewSteps = 3;
constexpr int64_t kFewStepsChannels = 256;  // of a task

inline int64_t complex_tiles(const ComplexScan& s) { return (s.T + kTile - 1) / kTile; }

// The offset of the state of stream b before tile 1, 2, … (that before tile 0 is h_in).
inline int64_t kept_complex_state(const ComplexScan& s, int64_t b, int64_t tile) {
  return (b * (complex_tiles(s) - 1) + tile - 1) * s.N * 2 * s.C;
}

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

template <class D>
using Modes = Complex<hn::Vec<D>>;

// Mode n of a complex array, for the vector of channels at c.
template <class D>
HWY_INLINE Modes<D> load(D d, const ComplexScan& s, const float* array, int64_t n, int64_t c) {
  return Load(d, array + 2 * n * s.C + c, s.C);
}

template <class D>
HWY_INLINE void store(D d, const ComplexScan& s, Modes<D> z, float* array, int64_t n, int64_t c) {
  Store(d, z, array + 2 * n * s.C + c, s.C);
}

template <class D>
HWY_INLINE void add(D d, const ComplexScan& s, Modes<D> z, float* array, int64_t n, int64_t c) {
  store(d, s, Plus(load(d, s, array, n, c), z), array, n, c);
}

// K modes from n through some steps: h on to `to`, Re(C h) onto sums, whose rows are sums_stride apart.
template <int K, class D>
HWY_INLINE void scan_modes(D d, const ComplexScan& s, int64_t row, int64_t steps, int64_t n, int64_t c,
                           const float* from, float* to, float* sums, int64_t sums_stride) {
  Modes<D> A[K], B[K], C[K], h[K];
  for (int k = 0; k < K; ++k) {
    A[k] = load(d, s, s.A, n + k, c);
    B[k] = load(d, s, s.input, n + k, c);
    C[k] = load(d, s, s.output, n + k, c);
    h[k] = load(d, s, from, n + k, c);
  }
  for (int64_t t = 0; t < steps; ++t) {
    const auto u = hn::LoadU(d, s.u.row(row + t) + c);
    auto sum = hn::LoadU(d, sums + t * sums_stride);
    for (int k = 0; k < K; ++k) {
      h[k] = Step(A[k], B[k], h[k], u);
      sum = hn::NegMulAdd(C[k].im, h[k].im, hn::MulAdd(C[k].re, h[k].re, sum));
    }
    hn::StoreU(sum, d, sums + t * sums_stride);
  }
  for (int k = 0; k < K; ++k) store(d, s, h[k], to, n + k, c);
}

// y = 2 sum + D u
template <class D>
HWY_INLINE void write(D d, const ComplexScan& s, int64_t row, int64_t c, const float* sum_at, Rows y) {
  const auto sum = hn::LoadU(d, sum_at), u = hn::LoadU(d, s.u.row(row) + c);
  hn::StoreU(hn::MulAdd(hn::LoadU(d, s.D + c), u, hn::Add(sum, sum)), d, y.row(row) + c);
}

// At most kFewSteps steps of stream b, for at most kFewStepsChannels channels.
void scan_few_steps(const ComplexScan& s, int64_t b, int64_t begin, int64_t end, Rows y, float* h_out) {
  HWY_ALIGN float sums[kFewSteps * kFewStepsChannels];
  std::fill_n(sums, kFewSteps * kFewStepsChannels, 0.0f);
  const int64_t state = b * s.N * 2 * s.C, row = b * s.T;
  for (int64_t n = 0; n < s.N; ++n) {
    for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
      scan_modes<1>(d, s, row, s.T, n, c, s.h_in + state, h_out + state, sums + c - begin, kFewStepsChannels);
    });
  }
  for (int64_t t = 0; t < s.T; ++t) {
    for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
      write(d, s, row + t, c, sums + t * kFewStepsChannels + c - begin, y);
    });
  }
}

// All steps of stream b for the channels [begin, end).
void scan_forward(const ComplexScan& s, int64_t b, int64_t begin, int64_t end, Rows y, float* h_out,
                  float* kept) {
  HWY_ALIGN float sums[kTile * kSlot];
  constexpr int kModes = hn::MaxLanes(WholeVector()) == 16 ? 2 : 1;  // as the registers allow
  const int64_t state = b * s.N * 2 * s.C;
  float* h = h_out + state;
  for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
    const float* from = s.h_in + state;
    for (int64_t tile = 0; tile < complex_tiles(s); ++tile) {
      const int64_t row = b * s.T + tile * kTile, steps = std::min(kTile, s.T - tile * kTile);
      if (kept != nullptr && tile > 0)
        for (int64_t n = 0; n < s.N; ++n)
          store(d, s, load(d, s, from, n, c), kept + kept_complex_state(s, b, tile), n, c);
      for (int64_t t = 0; t < steps; ++t) hn::Store(hn::Zero(d), d, sums + t * kSlot);
      int64_t n = 0;
      for (; n + kModes <= s.N; n += kModes) scan_modes<kModes>(d, s, row, steps, n, c, from, h, sums, kSlot);
      for (; n < s.N; ++n) scan_modes<1>(d, s, row, steps, n, c, from, h, sums, kSlot);
      for (int64_t t = 0; t < steps; ++t) write(d, s, row + t, c, sums + t * kSlot, y);
      from = h;
    }
  });
}

// Of a vector of channels: u and dy of a tile, du so far, and the gradients of the states of all modes.
struct BackwardTile {
  HWY_ALIGN float u[kTile * kSlot];
  HWY_ALIGN float dy[kTile * kSlot];
  HWY_ALIGN float du[kTile * kSlot];
  HWY_ALIGN float h[2 * (kTile + 1) * kSlot];  // of one mode, before each step and at the end
};

// Mode n back through a tile. g: the gradient of its state behind the tile, then before.
template <class D>
void reverse_mode(D d, const ComplexScan& s, int64_t steps, int64_t n, int64_t c, const float* start,
                  const ComplexScanGradients& gradients, BackwardTile& tile, float* g_memory) {
  const Modes<D> A = load(d, s, s.A, n, c), B = load(d, s, s.input, n, c), C = load(d, s, s.output, n, c);
  const auto again = [&](int64_t t) { return tile.h + 2 * t * kSlot; };
  Modes<D> h = load(d, s, start, n, c);
  hn::Store(h.re, d, again(0));
  hn::Store(h.im, d, again(0) + kSlot);
  for (int64_t t = 0; t < steps; ++t) {
    h = Step(A, B, h, hn::Load(d, tile.u + t * kSlot));
    hn::Store(h.re, d, again(t + 1));
    hn::Store(h.im, d, again(t + 1) + kSlot);
  }
  const auto zero = hn::Zero(d);
  Modes<D> g{hn::Load(d, g_memory), hn::Load(d, g_memory + kSlot)};  // Ā g of the step behind
  Modes<D> dA{zero, zero}, dB{zero, zero}, dC{zero, zero};
  const auto re2 = hn::Add(C.re, C.re), im2 = hn::Add(C.im, C.im);
  for (int64_t t = steps - 1; t >= 0; --t) {
    const auto dy = hn::Load(d, tile.dy + t * kSlot), u = hn::Load(d, tile.u + t * kSlot);
    const Modes<D> now = h;
    h = {hn::Load(d, again(t)), hn::Load(d, again(t) + kSlot)};
    dC = {hn::MulAdd(dy, now.re, dC.re), hn::NegMulAdd(dy, now.im, dC.im)};
    g = {hn::MulAdd(re2, dy, g.re), hn::NegMulAdd(im2, dy, g.im)};
    dA = {hn::MulAdd(g.re, h.re, hn::MulAdd(g.im, h.im, dA.re)),
          hn::MulAdd(g.im, h.re, hn::NegMulAdd(g.re, h.im, dA.im))};
    dB = {hn::MulAdd(g.re, u, dB.re), hn::MulAdd(g.im, u, dB.im)};
    const auto du = hn::Load(d, tile.du + t * kSlot);
    hn::Store(hn::MulAdd(B.re, g.re, hn::MulAdd(B.im, g.im, du)), d, tile.du + t * kSlot);
    g = {hn::MulAdd(A.re, g.re, hn::Mul(A.im, g.im)), hn::MulSub(A.re, g.im, hn::Mul(A.im, g.re))};
  }
  hn::Store(g.re, d, g_memory);
  hn::Store(g.im, d, g_memory + kSlot);
  if (gradients.A != nullptr) add(d, s, dA, gradients.A, n, c);
  if (gradients.input != nullptr) add(d, s, dB, gradients.input, n, c);
  if (gradients.output != nullptr) add(d, s, Plus(dC, dC), gradients.output, n, c);
}

// One tile of stream b for the vector of channels at c. g: [N][2] slots.
template <class D>
void reverse_tile(D d, const ComplexScan& s, int64_t b, int64_t k, int64_t c, const float* kept, ConstRows dy,
                  const ComplexScanGradients& gradients, BackwardTile& tile, float* g) {
  const int64_t row = b * s.T + k * kTile, steps = std::min(kTile, s.T - k * kTile);
  const auto skip = hn::LoadU(d, s.D + c);
  auto dD = hn::Zero(d);
  for (int64_t t = 0; t < steps; ++t) {
    const auto u = hn::LoadU(d, s.u.row(row + t) + c), slope = hn::LoadU(d, dy.row(row + t) + c);
    hn::Store(u, d, tile.u + t * kSlot);
    hn::Store(slope, d, tile.dy + t * kSlot);
    hn::Store(hn::Mul(skip, slope), d, tile.du + t * kSlot);
    dD = hn::MulAdd(slope, u, dD);
  }
  const float* start = k == 0 ? s.h_in + b * s.N * 2 * s.C : kept + kept_complex_state(s, b, k);
  for (int64_t n = 0; n < s.N; ++n)
    reverse_mode(d, s, steps, n, c, start, gradients, tile, g + 2 * n * kSlot);
  if (gradients.D != nullptr) hn::StoreU(hn::Add(hn::LoadU(d, gradients.D + c), dD), d, gradients.D + c);
  if (gradients.u.data == nullptr) return;
  for (int64_t t = 0; t < steps; ++t) {
    float* at = gradients.u.row(row + t) + c;
    hn::StoreU(hn::Add(hn::LoadU(d, at), hn::Load(d, tile.du + t * kSlot)), d, at);
  }
}

// All streams, one after the other, for the channels [begin, end): what they share is added up in order.
void scan_backward(const ComplexScan& s, int64_t begin, int64_t end, const float* kept, ConstRows dy,
                   const float* dh_out, const ComplexScanGradients& gradients, float* g) {
  BackwardTile tile;
  for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
    using D = decltype(d);
    for (int64_t b = 0; b < s.B; ++b) {
      const int64_t state = b * s.N * 2 * s.C;
      for (int64_t n = 0; n < s.N; ++n) {
        const Modes<D> last =
            dh_out == nullptr ? Modes<D>{hn::Zero(d), hn::Zero(d)} : load(d, s, dh_out + state, n, c);
        hn::Store(last.re, d, g + 2 * n * kSlot);
        hn::Store(last.im, d, g + (2 * n + 1) * kSlot);
      }
      for (int64_t k = complex_tiles(s) - 1; k >= 0; --k)
        reverse_tile(d, s, b, k, c, kept, dy, gradients, tile, g);
      if (gradients.h_in == nullptr) continue;
      for (int64_t n = 0; n < s.N; ++n)
        add(d, s, Modes<D>{hn::Load(d, g + 2 * n * kSlot), hn::Load(d, g + (2 * n + 1) * kSlot)},
            gradients.h_in + state, n, c);
    }
  });
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(scan_few_steps);
HWY_EXPORT(scan_forward);
HWY_EXPORT(scan_backward);

int64_t complex_scan_kept_size(const ComplexScan& s) { return kept_complex_state(s, s.B, 1); }

void complex_scan_forward(const ComplexScan& s, Rows y, float* h_out, float* kept) {
  const bool pays = s.B * s.T * s.C * s.N >= 100'000;  // some 0.2 ns each
  if (s.T <= kFewSteps) {
    const auto few_steps = HWY_DYNAMIC_DISPATCH(scan_few_steps);
    return for_every_channel_block(
        s.B, s.C, kFewStepsChannels, pays,
        [&](int64_t b, int64_t begin, int64_t end) { few_steps(s, b, begin, end, y, h_out); });
  }
  const auto forward = HWY_DYNAMIC_DISPATCH(scan_forward);
  for_every_channel_block(s.B, s.C, kChannelBlock, pays, [&](int64_t b, int64_t begin, int64_t end) {
    forward(s, b, begin, end, y, h_out, kept);
  });
}

void complex_scan_backward(const ComplexScan& s, const float* kept, ConstRows dy, const float* dh_out,
                           const ComplexScanGradients& gradients) {
  const bool pays = s.B * s.T * s.C * s.N >= 40'000;  // some 0.5 ns each
  const auto backward = HWY_DYNAMIC_DISPATCH(scan_backward);
  for_every_channel_block(1, s.C, kChannelBlock, pays, [&](int64_t, int64_t begin, int64_t end) {
    thread_local Scratch scratch;
    backward(s, begin, end, kept, dy, dh_out, gradients, scratch.get<float>(2 * s.N * kSlot));
  });
}

}  // namespace brood::kernels
#endif
