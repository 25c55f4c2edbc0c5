// How the scan runs. A block of channels, one or two vectors of them, goes through all steps with its states
// in the first-level cache. What binds forward is the exponential, one per element, so it is cut to the bone
// (Power2).
//
// Backward walks the stored checkpoints from the last to the first. Of each it runs the steps forward again,
// keeping exp(ΔA) and the decayed state of every element of one vector of channels, then runs back over them:
//
//   g = C_t dy_t + e          h̃ = exp(Δ_t A) h_{t−1}          e ← exp(Δ_t A) g
//   dC_t += Σ_c dy_t (h̃ + Δ_t x_t B_t)      dB_t += Σ_c g Δ_t x_t      dA += Δ_t g h̃
//   dx_t  = D dy_t + Δ_t Σ_n g B_t          dΔ_t  = x_t Σ_n g B_t + Σ_n A g h̃
//
// where e starts as the gradient of the final state and ends as that of the initial one. Sums over channels
// are kept per lane through a task's channels, folded once a task, and the tasks' parts are added in task
// order.
#include "brood/kernels/selective_scan.h"

#include <algorithm>

#include "brood/base/error.h"
#include "brood/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/selective_scan.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/vector_math-inl.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_SELECTIVE_SCAN_TASKS_
#define BROOD_KERNELS_SELECTIVE_SCAN_TASKS_
namespace brood::kernels {

// One task is one stream and this many channels: a whole number of blocks on every target, small enough that
// narrow models still give work to several threads.
constexpr int64_t kTaskChannels = 64;
constexpr int64_t kMaxLanes = 16;

// What the backward tasks leave for the fixed-order sums, inside the caller's scratch.
struct ScanPartials {
  float* input;       // [tasks of a stream][B·T][N]
  float* output;      // the same
  float* A;           // [B][N][C]
  float* D;           // [B][C]
  float* delta_bias;  // [B][C]
};

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

constexpr float kLog2E = 1.44269504f;

// 2^x for x <= 0 within 3 ulp, 2^−126 or 0 where it would be smaller. p is a minimax fit within 8e-8.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Power2(D d, V x) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  if constexpr (hn::MaxLanes(D()) == 16) {
    // x − floor(x) and the final product with 2^floor(x) are one instruction each.
    const V f{_mm512_reduce_ps(x.raw, 0x09)};
    V p = hn::Set(d, 1.8775766734e-3f);
    p = hn::MulAdd(p, f, hn::Set(d, 8.9893400946e-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 5.5826318050e-2f));
    p = hn::MulAdd(p, f, hn::Set(d, 2.4015361705e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 6.9315307320e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
    return V{_mm512_scalef_ps(p.raw, x.raw)};
  }
#endif
  const hn::RebindToUnsigned<D> du;
  x = hn::Max(x, hn::Set(d, -126.0f));
  // Adding 1.5·2^23 rounds x to a whole number, which then stands in the low bits.
  const V rounder = hn::Set(d, 12582912.0f);
  const V shifted = hn::Add(x, rounder);
  const V f = hn::Sub(x, hn::Sub(shifted, rounder));
  V p = hn::Set(d, 1.3276471979e-3f);
  p = hn::MulAdd(p, f, hn::Set(d, 9.6755413342e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 5.5507132735e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 2.4022119724e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 6.9314696706e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  return hn::BitCast(d, hn::Add(hn::BitCast(du, p), hn::ShiftLeft<23>(hn::BitCast(du, shifted))));
}

// States and decay rates of a block, [N] rows of the block's channels.
struct Rows {
  float* data;
  int64_t stride;
  float* row(int64_t n) const { return data + n * stride; }
};

void CopyRows(int64_t N, int64_t width, const float* from, int64_t from_stride, float* to,
              int64_t to_stride) {
  for (int64_t n = 0; n < N; ++n) std::copy_n(from + n * from_stride, width, to + n * to_stride);
}

// Step `row` of the V vectors of channels that begin at c: h ← exp(ΔA)∘h + Δx B, y.
template <int V, class D>
HWY_INLINE void ForwardStep(D d, const SelectiveScan& s, int64_t row, int64_t c, const float* A,
                            int64_t a_stride, const float* h_from, int64_t from_stride, float* h_to,
                            int64_t to_stride, float* y) {
  using Vec = hn::Vec<D>;
  constexpr int64_t kLanes = int64_t(hn::MaxLanes(D()));
  Vec delta2[V], dx[V], sum[V];
  for (int v = 0; v < V; ++v) {
    const int64_t at = c + v * kLanes;
    const Vec delta =
        Softplus(d, hn::Add(hn::LoadU(d, s.delta + row * s.C + at), hn::LoadU(d, s.delta_bias + at)));
    const Vec x = hn::LoadU(d, s.x + row * s.C + at);
    delta2[v] = hn::Mul(delta, hn::Set(d, kLog2E));
    dx[v] = hn::Mul(delta, x);
    sum[v] = hn::Mul(hn::LoadU(d, s.D + at), x);
  }
  const float* input = s.input + row * s.bc_stride;
  const float* output = s.output + row * s.bc_stride;
  for (int64_t n = 0; n < s.N; ++n) {
    const Vec in = hn::Set(d, input[n]), out = hn::Set(d, output[n]);
    for (int v = 0; v < V; ++v) {
      const Vec decay = Power2(d, hn::Mul(delta2[v], hn::LoadU(d, A + n * a_stride + v * kLanes)));
      const Vec kept = hn::Mul(decay, hn::LoadU(d, h_from + n * from_stride + v * kLanes));
      const Vec h = hn::MulAdd(dx[v], in, kept);
      hn::StoreU(h, d, h_to + n * to_stride + v * kLanes);
      sum[v] = hn::MulAdd(h, out, sum[v]);
    }
  }
  for (int v = 0; v < V; ++v) {
    const int64_t at = c + v * kLanes;
    if (s.z != nullptr) {
      const Vec z = hn::LoadU(d, s.z + row * s.z_stride + at);
      sum[v] = hn::Mul(sum[v], hn::Mul(z, Sigmoid(d, z)));
    }
    hn::StoreU(sum[v], d, y + row * s.C + at);
  }
}

// All steps of stream b for V vectors of channels. With few steps the states are used where they lie; with
// many they are brought together first, since rows C floats apart fall on few sets of the cache.
template <int V, class D>
void ForwardBlock(D d, const SelectiveScan& s, int64_t b, int64_t c, float* y, float* h_out,
                  float* checkpoints) {
  constexpr int64_t kWidth = V * int64_t(hn::MaxLanes(D()));
  constexpr int64_t kStepsWorthACopy = 4;
  HWY_ALIGN float h_near[kScanMaxStates * kWidth];
  HWY_ALIGN float a_near[kScanMaxStates * kWidth];
  const float* h_in = s.h_in + b * s.N * s.C + c;
  float* h_end = h_out + b * s.N * s.C + c;
  const bool near = s.T >= kStepsWorthACopy;
  const float* A = s.A + c;
  if (near) {
    CopyRows(s.N, kWidth, h_in, s.C, h_near, kWidth);
    CopyRows(s.N, kWidth, A, s.C, a_near, kWidth);
    A = a_near;
  }
  float* h = near ? h_near : h_end;
  const int64_t stride = near ? kWidth : s.C;
  const int64_t checkpoints_of_stream = (s.T + kScanCheckpoint - 1) / kScanCheckpoint;
  for (int64_t t = 0; t < s.T; ++t) {
    const bool first = t == 0 && !near;
    const float* from = first ? h_in : h;
    if (checkpoints != nullptr && t % kScanCheckpoint == 0) {
      const int64_t k = b * checkpoints_of_stream + t / kScanCheckpoint;
      CopyRows(s.N, kWidth, from, stride, checkpoints + k * s.N * s.C + c, s.C);
    }
    ForwardStep<V>(d, s, b * s.T + t, c, A, stride, from, stride, h, stride, y);
  }
  if (near) CopyRows(s.N, kWidth, h_near, kWidth, h_end, s.C);
}

void Forward(const SelectiveScan& s, int64_t b, int64_t begin, int64_t end, float* y, float* h_out,
             float* checkpoints) {
  const hn::CappedTag<float, kMaxLanes> d;
  const hn::CappedTag<float, 4> d4;
  const hn::CappedTag<float, 1> d1;
  constexpr int64_t kLanes = int64_t(hn::MaxLanes(d));
  int64_t c = begin;
  for (; c + 2 * kLanes <= end; c += 2 * kLanes) ForwardBlock<2>(d, s, b, c, y, h_out, checkpoints);
  for (; c + kLanes <= end; c += kLanes) ForwardBlock<1>(d, s, b, c, y, h_out, checkpoints);
  for (; c + 4 <= end; c += 4) ForwardBlock<1>(d4, s, b, c, y, h_out, checkpoints);
  for (; c < end; ++c) ForwardBlock<1>(d1, s, b, c, y, h_out, checkpoints);
}

// What one vector of channels keeps of the steps after one checkpoint, and the per-lane sums over the task's
// channels so far. Slots are kMaxLanes apart; narrower vectors use their beginning.
struct Segment {
  HWY_ALIGN float decay[kScanCheckpoint * kScanMaxStates * kMaxLanes];  // exp(ΔA)
  HWY_ALIGN float kept[kScanCheckpoint * kScanMaxStates * kMaxLanes];   // exp(ΔA)∘h_{t−1}
  HWY_ALIGN float input[kScanCheckpoint * kScanMaxStates * kMaxLanes];  // sums for dB
  HWY_ALIGN float output[kScanCheckpoint * kScanMaxStates * kMaxLanes];
  HWY_ALIGN float delta[kScanCheckpoint * kMaxLanes];
  HWY_ALIGN float slope[kScanCheckpoint * kMaxLanes];  // softplus'
  HWY_ALIGN float dy[kScanCheckpoint * kMaxLanes];     // behind the gate
  // Carried from segment to segment, [N][kTaskChannels].
  HWY_ALIGN float e[kScanMaxStates * kTaskChannels];
  HWY_ALIGN float dA[kScanMaxStates * kTaskChannels];
};

// Runs `steps` steps from `row` forward again from the checkpoint h_in, and takes the gradient through the
// gate.
template <class D>
void Recompute(D d, const SelectiveScan& s, int64_t row, int64_t steps, int64_t c, const float* h_in,
               const float* dy, float* dz, int64_t dz_stride, Segment& segment) {
  using Vec = hn::Vec<D>;
  HWY_ALIGN float h[kScanMaxStates * kMaxLanes];
  CopyRows(s.N, int64_t(hn::MaxLanes(d)), h_in, s.C, h, kMaxLanes);
  for (int64_t t = 0; t < steps; ++t) {
    const int64_t r = row + t;
    const Vec raw = hn::Add(hn::LoadU(d, s.delta + r * s.C + c), hn::LoadU(d, s.delta_bias + c));
    const Vec delta = Softplus(d, raw);
    hn::Store(delta, d, segment.delta + t * kMaxLanes);
    hn::Store(Sigmoid(d, raw), d, segment.slope + t * kMaxLanes);
    const Vec x = hn::LoadU(d, s.x + r * s.C + c);
    const Vec delta2 = hn::Mul(delta, hn::Set(d, kLog2E));
    const Vec dx = hn::Mul(delta, x);
    Vec y = hn::Mul(hn::LoadU(d, s.D + c), x);
    for (int64_t n = 0; n < s.N; ++n) {
      const int64_t slot = (t * s.N + n) * kMaxLanes;
      const Vec decay = Power2(d, hn::Mul(delta2, hn::LoadU(d, s.A + n * s.C + c)));
      const Vec kept = hn::Mul(decay, hn::Load(d, h + n * kMaxLanes));
      const Vec next = hn::MulAdd(dx, hn::Set(d, s.input[r * s.bc_stride + n]), kept);
      hn::Store(decay, d, segment.decay + slot);
      hn::Store(kept, d, segment.kept + slot);
      hn::Store(next, d, h + n * kMaxLanes);
      y = hn::MulAdd(next, hn::Set(d, s.output[r * s.bc_stride + n]), y);
    }
    Vec dy_scan = hn::LoadU(d, dy + r * s.C + c);
    if (s.z != nullptr) {
      const Vec z = hn::LoadU(d, s.z + r * s.z_stride + c);
      const Vec sigmoid = Sigmoid(d, z);
      if (dz != nullptr) {
        // silu'(z) = σ(z)(1 + z(1 − σ(z)))
        const Vec one = hn::Set(d, 1.0f);
        const Vec slope = hn::Mul(sigmoid, hn::MulAdd(z, hn::Sub(one, sigmoid), one));
        float* to = dz + r * dz_stride + c;
        hn::StoreU(hn::MulAdd(hn::Mul(dy_scan, y), slope, hn::LoadU(d, to)), d, to);
      }
      dy_scan = hn::Mul(dy_scan, hn::Mul(z, sigmoid));
    }
    hn::Store(dy_scan, d, segment.dy + t * kMaxLanes);
  }
}

template <class D>
HWY_INLINE void AddTo(D d, hn::Vec<D> value, float* to) {
  hn::StoreU(hn::Add(value, hn::LoadU(d, to)), d, to);
}

// Back over the same steps. e and dA: [N] rows of kTaskChannels, at this vector's channels; dD, dbias:
// likewise.
template <class D>
void Reverse(D d, const SelectiveScan& s, int64_t row, int64_t steps, int64_t c,
             const SelectiveScanGradients& g, Segment& segment, float* e, float* dA, float* dD,
             float* dbias) {
  using Vec = hn::Vec<D>;
  const Vec skip = hn::LoadU(d, s.D + c);
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t r = row + t;
    const Vec delta = hn::Load(d, segment.delta + t * kMaxLanes);
    const Vec dy = hn::Load(d, segment.dy + t * kMaxLanes);
    const Vec x = hn::LoadU(d, s.x + r * s.C + c);
    const Vec dx = hn::Mul(delta, x);
    Vec through_input = hn::Zero(d), through_decay = hn::Zero(d);
    for (int64_t n = 0; n < s.N; ++n) {
      const int64_t slot = (t * s.N + n) * kMaxLanes;
      const Vec in = hn::Set(d, s.input[r * s.bc_stride + n]);
      const Vec kept = hn::Load(d, segment.kept + slot);
      float* e_n = e + n * kTaskChannels;
      float* dA_n = dA + n * kTaskChannels;
      const Vec gradient = hn::MulAdd(hn::Set(d, s.output[r * s.bc_stride + n]), dy, hn::Load(d, e_n));
      const Vec h = hn::MulAdd(dx, in, kept);
      hn::Store(hn::MulAdd(dy, h, hn::Load(d, segment.output + slot)), d, segment.output + slot);
      hn::Store(hn::MulAdd(gradient, dx, hn::Load(d, segment.input + slot)), d, segment.input + slot);
      through_input = hn::MulAdd(gradient, in, through_input);
      const Vec product = hn::Mul(gradient, kept);
      through_decay = hn::MulAdd(hn::LoadU(d, s.A + n * s.C + c), product, through_decay);
      hn::Store(hn::MulAdd(delta, product, hn::Load(d, dA_n)), d, dA_n);
      hn::Store(hn::Mul(hn::Load(d, segment.decay + slot), gradient), d, e_n);
    }
    const Vec ddelta =
        hn::Mul(hn::MulAdd(x, through_input, through_decay), hn::Load(d, segment.slope + t * kMaxLanes));
    if (g.x != nullptr) AddTo(d, hn::MulAdd(skip, dy, hn::Mul(delta, through_input)), g.x + r * s.C + c);
    if (g.delta != nullptr) AddTo(d, ddelta, g.delta + r * s.C + c);
    AddTo(d, ddelta, dbias);
    AddTo(d, hn::Mul(dy, x), dD);
  }
}

// Folds the lanes of the segment's sums into the task's rows of the partial dB and dC.
void FoldLanes(const SelectiveScan& s, int64_t row, int64_t steps, const Segment& segment, float* input,
               float* output) {
  const hn::CappedTag<float, kMaxLanes> d;
  for (int64_t i = 0; i < steps * s.N; ++i) {
    float in = 0, out = 0;
    for (int64_t l = 0; l < kMaxLanes; l += int64_t(hn::MaxLanes(d))) {
      in += hn::GetLane(hn::SumOfLanes(d, hn::Load(d, segment.input + i * kMaxLanes + l)));
      out += hn::GetLane(hn::SumOfLanes(d, hn::Load(d, segment.output + i * kMaxLanes + l)));
    }
    input[row * s.N + i] = in;
    output[row * s.N + i] = out;
  }
}

void Backward(const SelectiveScan& s, int64_t b, int64_t begin, int64_t end, const float* checkpoints,
              const float* dy, const float* dh_out, const SelectiveScanGradients& g,
              const ScanPartials& partials) {
  const hn::CappedTag<float, kMaxLanes> d;
  const hn::CappedTag<float, 4> d4;
  const hn::CappedTag<float, 1> d1;
  constexpr int64_t kLanes = int64_t(hn::MaxLanes(d));
  Segment segment;
  const int64_t width = end - begin;
  const int64_t task = begin / kTaskChannels;
  for (int64_t n = 0; n < s.N; ++n) {
    float* e = segment.e + n * kTaskChannels;
    std::fill_n(segment.dA + n * kTaskChannels, width, 0.0f);
    if (dh_out == nullptr)
      std::fill_n(e, width, 0.0f);
    else
      std::copy_n(dh_out + (b * s.N + n) * s.C + begin, width, e);
  }
  float* dD = partials.D + b * s.C;
  float* dbias = partials.delta_bias + b * s.C;
  std::fill(dD + begin, dD + end, 0.0f);
  std::fill(dbias + begin, dbias + end, 0.0f);

  const int64_t segments = (s.T + kScanCheckpoint - 1) / kScanCheckpoint;
  for (int64_t k = segments - 1; k >= 0; --k) {
    const int64_t row = b * s.T + k * kScanCheckpoint;
    const int64_t steps = std::min(kScanCheckpoint, s.T - k * kScanCheckpoint);
    const float* h_in = checkpoints + (b * segments + k) * s.N * s.C;
    std::fill_n(segment.input, steps * s.N * kMaxLanes, 0.0f);
    std::fill_n(segment.output, steps * s.N * kMaxLanes, 0.0f);
    auto vector_of_channels = [&](auto tag, int64_t c) HWY_ATTR {
      Recompute(tag, s, row, steps, c, h_in + c, dy, g.z, g.z_stride, segment);
      Reverse(tag, s, row, steps, c, g, segment, segment.e + (c - begin), segment.dA + (c - begin), dD + c,
              dbias + c);
    };
    int64_t c = begin;
    for (; c + kLanes <= end; c += kLanes) vector_of_channels(d, c);
    for (; c + 4 <= end; c += 4) vector_of_channels(d4, c);
    for (; c < end; ++c) vector_of_channels(d1, c);
    FoldLanes(s, row, steps, segment, partials.input + task * s.B * s.T * s.N,
              partials.output + task * s.B * s.T * s.N);
  }
  CopyRows(s.N, width, segment.dA, kTaskChannels, partials.A + b * s.N * s.C + begin, s.C);
  if (g.h_in != nullptr) {
    for (int64_t n = 0; n < s.N; ++n) {
      float* to = g.h_in + (b * s.N + n) * s.C + begin;
      for (int64_t i = 0; i < width; ++i) to[i] += segment.e[n * kTaskChannels + i];
    }
  }
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(Forward);
HWY_EXPORT(Backward);

namespace {

// Below this many elements (B·T·C·N; some 0.2 ns each) a call is over before a second thread has helped.
constexpr int64_t kInlineElements = 100'000;

int64_t tasks_of_stream(const SelectiveScan& s) { return (s.C + kTaskChannels - 1) / kTaskChannels; }

// Runs task(b, first channel, end) for every task, by the pool where that pays.
template <class Task>
void for_every_task(const SelectiveScan& s, const Task& task) {
  const int64_t per_stream = tasks_of_stream(s);
  auto one = [&](int64_t i) {
    const int64_t begin = i % per_stream * kTaskChannels;
    task(i / per_stream, begin, std::min(begin + kTaskChannels, s.C));
  };
  const int64_t tasks = s.B * per_stream;
  if (s.B * s.T * s.C * s.N < kInlineElements) {
    for (int64_t i = 0; i < tasks; ++i) one(i);
  } else {
    parallel(tasks, one);
  }
}

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

int64_t selective_scan_checkpoint_size(const SelectiveScan& s) {
  return s.B * ((s.T + kScanCheckpoint - 1) / kScanCheckpoint) * s.N * s.C;
}

void selective_scan_forward(const SelectiveScan& s, float* y, float* h_out, float* checkpoints) {
  BROOD_ASSERT(s.N <= kScanMaxStates);
  const auto forward = HWY_DYNAMIC_DISPATCH(Forward);
  for_every_task(
      s, [&](int64_t b, int64_t begin, int64_t end) { forward(s, b, begin, end, y, h_out, checkpoints); });
}

int64_t selective_scan_backward_scratch(const SelectiveScan& s) {
  return 2 * tasks_of_stream(s) * s.B * s.T * s.N + s.B * (s.N + 2) * s.C;
}

void selective_scan_backward(const SelectiveScan& s, const float* checkpoints, const float* dy,
                             const float* dh_out, const SelectiveScanGradients& g, float* scratch) {
  BROOD_ASSERT(s.N <= kScanMaxStates);
  ScanPartials partials;
  partials.input = scratch;
  partials.output = partials.input + tasks_of_stream(s) * s.B * s.T * s.N;
  partials.A = partials.output + tasks_of_stream(s) * s.B * s.T * s.N;
  partials.D = partials.A + s.B * s.N * s.C;
  partials.delta_bias = partials.D + s.B * s.C;
  const auto backward = HWY_DYNAMIC_DISPATCH(Backward);
  for_every_task(s, [&](int64_t b, int64_t begin, int64_t end) {
    backward(s, b, begin, end, checkpoints, dy, dh_out, g, partials);
  });
  add_parts_of_rows(s, partials.input, g.input, g.bc_stride);
  add_parts_of_rows(s, partials.output, g.output, g.bc_stride);
  add_parts(s.B, s.N * s.C, partials.A, g.A);
  add_parts(s.B, s.C, partials.D, g.D);
  add_parts(s.B, s.C, partials.delta_bias, g.delta_bias);
}

}  // namespace brood::kernels
#endif
