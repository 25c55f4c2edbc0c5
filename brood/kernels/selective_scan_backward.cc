// The scan backward. It walks the stored checkpoints from the last to the first. Of each it runs the steps
// forward again, keeping exp(ΔA) and the decayed state of every element of one vector of channels, then runs
// back over them:
//
//   g = C_t dy_t + e          h̃ = exp(Δ_t A) h_{t−1}          e ← exp(Δ_t A) g
//   dC_t += Σ_c dy_t (h̃ + Δ_t x_t B_t)      dB_t += Σ_c g Δ_t x_t      dA += Δ_t g h̃
//   dx_t  = D dy_t + Δ_t Σ_n g B_t          dΔ_t  = x_t Σ_n g B_t + Σ_n A g h̃
//
// where e starts as the gradient of the final state and ends as that of the initial one. Sums over channels
// are kept per lane through a task's channels and folded once a tile; the tasks' parts are added in task
// order.
#include <algorithm>

#include "brood/base/error.h"
#include "brood/kernels/selective_scan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/selective_scan_backward.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/four_vectors-inl.h"
#include "brood/kernels/selective_scan-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_SELECTIVE_SCAN_PARTIALS_
#define BROOD_KERNELS_SELECTIVE_SCAN_PARTIALS_
namespace brood::kernels {

constexpr int64_t kSlot = 16;  // floats from one vector to the next, whatever its lanes

// What the tasks leave for the fixed-order sums, inside the caller's scratch.
struct ScanPartials {
  float* input;       // [tasks of a stream][B·T][N]
  float* output;      // the same
  float* A;           // [B][N][C], unused for one stream
  float* D;           // [B][C]
  float* delta_bias;  // [B][C]
};

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

constexpr int64_t kElements = kScanCheckpoint * kScanMaxStates * kSlot;

struct Segment {
  ScanTile<kScanCheckpoint * kTaskChannels> tile;
  HWY_ALIGN float slope[kScanCheckpoint * kTaskChannels];      // softplus'
  HWY_ALIGN float dy[kScanCheckpoint * kTaskChannels];         // behind the gate
  HWY_ALIGN float dz_factor[kScanCheckpoint * kTaskChannels];  // dz / y
  // One vector of channels, [steps][N] slots.
  HWY_ALIGN float decay[kElements];  // exp(ΔA)
  HWY_ALIGN float kept[kElements];   // exp(ΔA)∘h_{t−1}
  // Sums per lane over the task's channels so far, [steps][N] slots.
  HWY_ALIGN float input[kElements];
  HWY_ALIGN float output[kElements];
  // From tile to tile, [N][kTaskChannels].
  HWY_ALIGN float e[kScanMaxStates * kTaskChannels];
  HWY_ALIGN float dA[kScanMaxStates * kTaskChannels];
  HWY_ALIGN float A[kScanMaxStates * kTaskChannels];
};

// What the gate makes of dy at step row + t: dy behind it, and the factor of y in dz, dy·silu'(z), where
// silu'(z) = σ(z)(1 + z(1 − σ(z))).
template <class D>
HWY_INLINE void gate(D d, const SelectiveScan& s, int64_t row, int64_t c, const float* dy, float* dy_scan,
                     float* dz_factor) {
  const auto one = hn::Set(d, 1.0f);
  const auto outer = hn::LoadU(d, dy + row * s.C + c);
  if (s.z == nullptr) return hn::StoreU(outer, d, dy_scan);
  const auto z = hn::LoadU(d, s.z + row * s.z_stride + c);
  const auto sigmoid = Sigmoid(d, z);
  hn::StoreU(hn::Mul(outer, hn::Mul(z, sigmoid)), d, dy_scan);
  hn::StoreU(hn::Mul(hn::Mul(outer, sigmoid), hn::MulAdd(z, hn::Sub(one, sigmoid), one)), d, dz_factor);
}

// Everything of the steps from `row` that does not wait for the recurrence.
void prepare_segment(const SelectiveScan& s, int64_t row, int64_t steps, int64_t begin, int64_t width,
                     const float* dy, Segment& segment) {
  over_channels(width, [&](auto d, int64_t i) HWY_ATTR {
    const int64_t c = begin + i;
    const auto bias = hn::LoadU(d, s.delta_bias + c), skip = hn::LoadU(d, s.D + c);
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t at = t * kTaskChannels + i;
      const auto x = hn::LoadU(d, s.x + (row + t) * s.C + c);
      const auto raw = hn::Add(hn::LoadU(d, s.delta + (row + t) * s.C + c), bias);
      hn::Vec<decltype(d)> slope;
      const auto delta = Softplus(d, raw, slope);
      hn::StoreU(delta, d, segment.tile.delta + at);
      hn::StoreU(slope, d, segment.slope + at);
      hn::StoreU(hn::Mul(delta, x), d, segment.tile.dx + at);
      hn::StoreU(hn::Mul(skip, x), d, segment.tile.y + at);
      gate(d, s, row + t, c, dy, segment.dy + at, segment.dz_factor + at);
    }
  });
}

// Rows lie C numbers apart, too far for the processor to guess the next one.
HWY_INLINE void prefetch_step(const SelectiveScan& s, int64_t row, int64_t c, const float* dy,
                              const SelectiveScanGradients& g) {
  hwy::Prefetch(s.x + row * s.C + c);
  hwy::Prefetch(s.delta + row * s.C + c);
  hwy::Prefetch(dy + row * s.C + c);
  if (s.z != nullptr) hwy::Prefetch(s.z + row * s.z_stride + c);
  if (g.x != nullptr) hwy::Prefetch(g.x + row * s.C + c);
  if (g.delta != nullptr) hwy::Prefetch(g.delta + row * s.C + c);
  if (g.z != nullptr) hwy::Prefetch(g.z + row * g.z_stride + c);
}

// Runs the vector of channels at i of the task forward again from h_in, and calls for the rows of the tile
// before.
template <class D>
void recompute(D d, const SelectiveScan& s, int64_t row, int64_t steps, int64_t begin, int64_t i,
               const float* h_in, const float* dy, const SelectiveScanGradients& g, Segment& segment) {
  HWY_ALIGN float h[kScanMaxStates * kSlot];
  for (int64_t n = 0; n < s.N; ++n) hn::Store(hn::LoadU(d, h_in + n * s.C), d, h + n * kSlot);
  const bool more = row % s.T != 0;
  for (int64_t t = 0; t < steps; ++t) {
    const int64_t at = t * kTaskChannels + i;
    if (more) prefetch_step(s, row + t - kScanCheckpoint, begin + i, dy, g);
    advance<true>(d, s.N, {segment.A + i, kTaskChannels}, segment.tile.delta + at, segment.tile.dx + at,
                  s.input + (row + t) * s.bc_stride, s.output + (row + t) * s.bc_stride, {h, kSlot},
                  {h, kSlot}, segment.tile.y + at, segment.decay + t * s.N * kSlot,
                  segment.kept + t * s.N * kSlot, kSlot);
  }
}

// Back over the same steps for K states from n: e and dA stay in registers, the sums over states go through
// memory.
template <int K, class D>
HWY_INLINE void reverse_states(D d, const SelectiveScan& s, int64_t row, int64_t steps, int64_t i, int64_t n,
                               Segment& segment, float* through_input, float* through_decay) {
  using Vec = hn::Vec<D>;
  Vec e[K], dA[K];
  for (int k = 0; k < K; ++k) {
    e[k] = hn::LoadU(d, segment.e + (n + k) * kTaskChannels + i);
    dA[k] = hn::LoadU(d, segment.dA + (n + k) * kTaskChannels + i);
  }
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t at = t * kTaskChannels + i;
    const Vec delta = hn::LoadU(d, segment.tile.delta + at);
    const Vec dx = hn::LoadU(d, segment.tile.dx + at);
    const Vec dy = hn::LoadU(d, segment.dy + at);
    const float* input = s.input + (row + t) * s.bc_stride + n;
    const float* output = s.output + (row + t) * s.bc_stride + n;
    Vec by_input = hn::Load(d, through_input + t * kSlot), by_decay = hn::Load(d, through_decay + t * kSlot);
    for (int k = 0; k < K; ++k) {
      const int64_t slot = (t * s.N + n + k) * kSlot;
      const Vec in = hn::Set(d, input[k]);
      const Vec kept = hn::Load(d, segment.kept + slot);
      const Vec gradient = hn::MulAdd(hn::Set(d, output[k]), dy, e[k]);
      const Vec h = hn::MulAdd(dx, in, kept);
      hn::Store(hn::MulAdd(dy, h, hn::Load(d, segment.output + slot)), d, segment.output + slot);
      hn::Store(hn::MulAdd(gradient, dx, hn::Load(d, segment.input + slot)), d, segment.input + slot);
      const Vec product = hn::Mul(gradient, kept);
      by_input = hn::MulAdd(gradient, in, by_input);
      by_decay = hn::MulAdd(hn::LoadU(d, segment.A + (n + k) * kTaskChannels + i), product, by_decay);
      dA[k] = hn::MulAdd(delta, product, dA[k]);
      e[k] = hn::Mul(hn::Load(d, segment.decay + slot), gradient);
    }
    hn::Store(by_input, d, through_input + t * kSlot);
    hn::Store(by_decay, d, through_decay + t * kSlot);
  }
  for (int k = 0; k < K; ++k) {
    hn::StoreU(e[k], d, segment.e + (n + k) * kTaskChannels + i);
    hn::StoreU(dA[k], d, segment.dA + (n + k) * kTaskChannels + i);
  }
}

template <class D>
HWY_INLINE void add_into(D d, hn::Vec<D> value, float* to) {
  hn::StoreU(hn::Add(value, hn::LoadU(d, to)), d, to);
}

template <class D>
void reverse(D d, const SelectiveScan& s, int64_t row, int64_t steps, int64_t begin, int64_t i,
             const SelectiveScanGradients& g, Segment& segment, float* dD, float* dbias) {
  HWY_ALIGN float through_input[kScanCheckpoint * kSlot];  // Σ g B
  HWY_ALIGN float through_decay[kScanCheckpoint * kSlot];  // Σ A g h̃
  for (int64_t t = 0; t < steps; ++t) {
    hn::Store(hn::Zero(d), d, through_input + t * kSlot);
    hn::Store(hn::Zero(d), d, through_decay + t * kSlot);
  }
  int64_t n = 0;
  for (; n + 4 <= s.N; n += 4)
    reverse_states<4>(d, s, row, steps, i, n, segment, through_input, through_decay);
  for (; n < s.N; ++n) reverse_states<1>(d, s, row, steps, i, n, segment, through_input, through_decay);

  const int64_t c = begin + i;
  const auto skip = hn::LoadU(d, s.D + c);
  auto sum_d = hn::LoadU(d, dD + c), sum_bias = hn::LoadU(d, dbias + c);
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t at = t * kTaskChannels + i;
    const auto x = hn::LoadU(d, s.x + (row + t) * s.C + c);
    const auto delta = hn::LoadU(d, segment.tile.delta + at);
    const auto dy = hn::LoadU(d, segment.dy + at);
    const auto by_input = hn::Load(d, through_input + t * kSlot),
               by_decay = hn::Load(d, through_decay + t * kSlot);
    const auto ddelta = hn::Mul(hn::MulAdd(x, by_input, by_decay), hn::LoadU(d, segment.slope + at));
    if (g.z != nullptr && s.z != nullptr) {
      const auto dz = hn::Mul(hn::LoadU(d, segment.dz_factor + at), hn::LoadU(d, segment.tile.y + at));
      add_into(d, dz, g.z + (row + t) * g.z_stride + c);
    }
    if (g.x != nullptr)
      add_into(d, hn::MulAdd(skip, dy, hn::Mul(delta, by_input)), g.x + (row + t) * s.C + c);
    if (g.delta != nullptr) add_into(d, ddelta, g.delta + (row + t) * s.C + c);
    sum_bias = hn::Add(sum_bias, ddelta);
    sum_d = hn::MulAdd(dy, x, sum_d);
  }
  hn::StoreU(sum_d, d, dD + c);
  hn::StoreU(sum_bias, d, dbias + c);
}

// to[j] = the sum of the kSlot numbers of slot j, for 4 slots.
HWY_INLINE void fold_four(const float* slots, float* to) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t j = 0; j < 4; ++j) to[j] = slots[j * kSlot];  // one lane
#else
  const hn::CappedTag<float, 4> d;
  hn::Vec<decltype(d)> sum[4];
  for (int64_t j = 0; j < 4; ++j) {
    const float* slot = slots + j * kSlot;
    sum[j] = hn::Add(hn::Add(hn::Load(d, slot), hn::Load(d, slot + 4)),
                     hn::Add(hn::Load(d, slot + 8), hn::Load(d, slot + 12)));
  }
  SumsOfFour(d, sum[0], sum[1], sum[2], sum[3], to);
#endif
}

// The per-lane sums of `count` (rounded up to 4) slots into as many numbers.
void fold_lanes(int64_t count, const float* slots, float* to) {
  for (int64_t i = 0; i < count; i += 4) {
    HWY_ALIGN float four[4];
    fold_four(slots + i * kSlot, four);
    std::copy_n(four, std::min<int64_t>(4, count - i), to + i);
  }
}

void backward_segment(const SelectiveScan& s, int64_t row, int64_t steps, int64_t begin, int64_t width,
                      const float* h_in, const float* dy, const SelectiveScanGradients& g, float* dD,
                      float* dbias, Segment& segment) {
  const int64_t slots = (steps * s.N + 3) / 4 * 4;
  std::fill_n(segment.input, slots * kSlot, 0.0f);
  std::fill_n(segment.output, slots * kSlot, 0.0f);
  prepare_segment(s, row, steps, begin, width, dy, segment);
  over_channels(width, [&](auto d, int64_t i) HWY_ATTR {
    recompute(d, s, row, steps, begin, i, h_in + begin + i, dy, g, segment);
    reverse(d, s, row, steps, begin, i, g, segment, dD, dbias);
  });
}

void add_rows(int64_t N, int64_t width, const float* from, float* to, int64_t to_stride) {
  for (int64_t n = 0; n < N; ++n) {
    over_channels(width, [&](auto d, int64_t i) HWY_ATTR {
      add_into(d, hn::LoadU(d, from + n * kTaskChannels + i), to + n * to_stride + i);
    });
  }
}

void scan_backward(const SelectiveScan& s, int64_t b, int64_t begin, int64_t end, const float* checkpoints,
                   const float* dy, const float* dh_out, const SelectiveScanGradients& g,
                   const ScanPartials& partials) {
  Segment segment;
  const int64_t width = end - begin;
  for (int64_t n = 0; n < s.N; ++n) {
    float* e = segment.e + n * kTaskChannels;
    std::fill_n(segment.dA + n * kTaskChannels, width, 0.0f);
    if (dh_out == nullptr)
      std::fill_n(e, width, 0.0f);
    else
      std::copy_n(dh_out + (b * s.N + n) * s.C + begin, width, e);
  }
  copy_rows(s.N, width, s.A + begin, s.C, segment.A, kTaskChannels);
  float* dD = partials.D + b * s.C;
  float* dbias = partials.delta_bias + b * s.C;
  std::fill(dD + begin, dD + end, 0.0f);
  std::fill(dbias + begin, dbias + end, 0.0f);
  const int64_t task = begin / kTaskChannels * s.B * s.T * s.N;

  const int64_t tiles = tiles_of_stream(s);
  for (int64_t k = tiles - 1; k >= 0; --k) {
    const int64_t row = b * s.T + k * kScanCheckpoint;
    const int64_t steps = std::min(kScanCheckpoint, s.T - k * kScanCheckpoint);
    const float* h_in = checkpoints + (b * tiles + k) * s.N * s.C;
    backward_segment(s, row, steps, begin, width, h_in, dy, g, dD, dbias, segment);
    fold_lanes(steps * s.N, segment.input, partials.input + task + row * s.N);
    fold_lanes(steps * s.N, segment.output, partials.output + task + row * s.N);
  }
  if (s.B > 1)
    copy_rows(s.N, width, segment.dA, kTaskChannels, partials.A + b * s.N * s.C + begin, s.C);
  else if (g.A != nullptr)
    add_rows(s.N, width, segment.dA, g.A + begin, s.C);
  if (g.h_in != nullptr) add_rows(s.N, width, segment.e, g.h_in + b * s.N * s.C + begin, s.C);
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(scan_backward);

namespace {

int64_t tasks_of_stream(const SelectiveScan& s) { return (s.C + kTaskChannels - 1) / kTaskChannels; }

// to[i] += Σ_part parts[part·size + i], in the order of the parts.
void add_parts(int64_t parts, int64_t size, const float* from, float* to) {
  if (to == nullptr) return;
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t i = 0; i < size; ++i) to[i] += from[part * size + i];
}

void add_parts_of_rows(const SelectiveScan& s, const float* from, float* to, int64_t to_stride) {
  if (to == nullptr) return;
  const int64_t rows = s.B * s.T;
  for (int64_t part = 0; part < tasks_of_stream(s); ++part)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t n = 0; n < s.N; ++n) to[r * to_stride + n] += from[(part * rows + r) * s.N + n];
}

}  // namespace

int64_t selective_scan_backward_scratch(const SelectiveScan& s) {
  return 2 * tasks_of_stream(s) * s.B * s.T * s.N + s.B * (s.N + 2) * s.C;
}

void selective_scan_backward(const SelectiveScan& s, const float* checkpoints, const float* dy,
                             const float* dh_out, const SelectiveScanGradients& g, float* scratch) {
  BROOD_ASSERT(s.N >= 1 && s.N <= kScanMaxStates);
  ScanPartials partials;
  partials.input = scratch;
  partials.output = partials.input + tasks_of_stream(s) * s.B * s.T * s.N;
  partials.A = partials.output + tasks_of_stream(s) * s.B * s.T * s.N;
  partials.D = partials.A + s.B * s.N * s.C;
  partials.delta_bias = partials.D + s.B * s.C;
  const auto backward = HWY_DYNAMIC_DISPATCH(scan_backward);
  for_every_scan_task(s, kTaskChannels, [&](int64_t b, int64_t begin, int64_t end) {
    backward(s, b, begin, end, checkpoints, dy, dh_out, g, partials);
  });
  add_parts_of_rows(s, partials.input, g.input, g.bc_stride);
  add_parts_of_rows(s, partials.output, g.output, g.bc_stride);
  if (s.B > 1) add_parts(s.B, s.N * s.C, partials.A, g.A);  // one stream added its own
  add_parts(s.B, s.C, partials.D, g.D);
  add_parts(s.B, s.C, partials.delta_bias, g.delta_bias);
}

}  // namespace brood::kernels
#endif
