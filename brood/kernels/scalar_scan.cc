// The scalar scan forward. A task is one head of one stream, whose state stays in the nearest caches while
// its steps pass. The recurrence makes three operations of every number of the state and step, and loads and
// stores it; the chunk form two, and touches it once for each tile of rows.
#include "brood/kernels/scalar_scan.h"

#include "brood/base/error.h"
#include "brood/kernels/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/scalar_scan.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/scalar_scan-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

// One step of W vectors of columns: S ← decay·S + k vᵀ (v already weighted), y += Sᵀ q.
template <int W, class D>
HWY_INLINE void advance(D d, int64_t N, int64_t P, float decay, const float* k, const float* q,
                        const hn::Vec<D> (&v)[W], const float* from, float* to, hn::Vec<D> (&y)[W]) {
  constexpr int64_t kWidth = int64_t(hn::MaxLanes(D()));
  const auto factor = hn::Set(d, decay);
  hn::Vec<D> sum[W];  // in registers, which y by reference is not
  for (int w = 0; w < W; ++w) sum[w] = y[w];
  for (int64_t n = 0; n < N; ++n) {
    const auto key = hn::Set(d, k[n]), query = hn::Set(d, q[n]);
    for (int w = 0; w < W; ++w) {
      const int64_t at = n * P + w * kWidth;
      const auto state = hn::MulAdd(factor, hn::LoadU(d, from + at), hn::Mul(key, v[w]));
      hn::StoreU(state, d, to + at);
      sum[w] = hn::MulAdd(query, state, sum[w]);
    }
  }
  for (int w = 0; w < W; ++w) y[w] = sum[w];
}

// All steps of the columns [column, column + W vectors) of a head.
template <int W, class D>
HWY_INLINE void run_columns(D d, const ScalarScan& s, int64_t b, int64_t h, int64_t column, float* y,
                            float* state_out) {
  constexpr int64_t kWidth = int64_t(hn::MaxLanes(D()));
  const hn::CappedTag<float, 1> one;
  const int64_t g = h / (s.heads / s.groups), state = (b * s.heads + h) * s.N * s.P + column;
  const float* from = s.state_in + state;
  for (int64_t row = b * s.T; row < (b + 1) * s.T; ++row) {
    const float log_decay = std::max(s.log_decay[row * s.log_decay_stride + h], kLeastLogDecay);
    const float decay = hn::GetLane(Exp(one, hn::Set(one, log_decay)));
    const auto weight = hn::Set(d, of_step(s.weight, s.weight_stride, row, h, 1));
    const auto skip = hn::Set(d, of_step(s.skip, s.skip_stride, row, h, 0));
    hn::Vec<D> v[W], sum[W];
    for (int w = 0; w < W; ++w) {
      const auto x = hn::LoadU(d, s.v + row * s.v_stride + h * s.P + column + w * kWidth);
      v[w] = hn::Mul(weight, x);
      sum[w] = hn::Mul(skip, x);
    }
    advance<W>(d, s.N, s.P, decay, s.k + row * s.k_stride + g * s.N, s.q + row * s.q_stride + g * s.N, v,
               from, state_out + state, sum);
    for (int w = 0; w < W; ++w) hn::StoreU(sum[w], d, y + (row * s.heads + h) * s.P + column + w * kWidth);
    from = state_out + state;
  }
}

void scalar_recurrence(const ScalarScan& s, int64_t b, int64_t h, float* y, float* state_out) {
  const F d;
  const hn::CappedTag<float, 4> d4;
  const hn::CappedTag<float, 1> one;
  constexpr int64_t kFew = int64_t(hn::MaxLanes(d4));
  int64_t column = 0;
  for (; column + 4 * kLanes <= s.P; column += 4 * kLanes) run_columns<4>(d, s, b, h, column, y, state_out);
  for (; column + kLanes <= s.P; column += kLanes) run_columns<1>(d, s, b, h, column, y, state_out);
  for (; column + kFew <= s.P; column += kFew) run_columns<1>(d4, s, b, h, column, y, state_out);
  for (; column < s.P; ++column) run_columns<1>(one, s, b, h, column, y, state_out);
}

// What a head's chunk is made of, beside what its group shares, and the head's state.
struct Work {
  float *M, *v, *weighted, *y;  // [Q][Q], [Q][P], e^{s_Q − s_j} w_j v_j, [Q][P]
  float* state;                 // [N][P]
  Work(const ScalarScanSizes& z, float* memory)
      : M(memory), v(M + z.Q * z.Q), weighted(v + z.Q * z.P), y(weighted + z.Q * z.P), state(y + z.Q * z.P) {}
};

void prepare_chunk(const ScalarScanSizes& z, int64_t rows, const ChunkDecay& decay,
                   const ScalarScanGroupChunk& group, const Work& w) {
  const F d;
  decay.weigh_for_end(z, w.v, w.weighted);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < triangle_columns(i); j += kLanes) {
      const auto product = hn::Mul(hn::Load(d, group.products + i * z.Q + j), hn::Load(d, decay.weight + j));
      hn::Store(hn::Mul(decay.row(i, j), product), d, w.M + i * z.Q + j);
    }
    w.M[i * z.Q + i] += decay.skip[i];
  }
}

// Whether a state is a buffer of whole tiles as it lies.
bool usable_as_it_lies(const ScalarScan& s, const ScalarScanSizes& z, const float* state) {
  return s.N == z.N && s.P == z.P && reinterpret_cast<uintptr_t>(state) % 64 == 0;
}

// All chunks of head h of stream b.
void scalar_chunks(const ScalarScan& s, int64_t b, int64_t h, float* shared, float* y, float* state_out,
                   float* checkpoints, float* work) {
  const ScalarScanSizes z(s);
  const Work w(z, work);
  const int64_t head = (b * s.heads + h) * s.N * s.P, y_step = s.heads * s.P;
  const bool direct = usable_as_it_lies(s, z, s.state_in + head) && usable_as_it_lies(s, z, state_out + head);
  float* state = direct ? state_out + head : w.state;
  const float* before = direct ? s.state_in + head : w.state;
  if (!direct) pack(s.N, s.P, s.state_in + head, s.P, 0, z.N, z.P, w.state);
  for (int64_t c = 0; c < z.chunks; ++c) {
    const int64_t steps = steps_of_chunk(s, c), row = b * s.T + c * s.chunk;
    const int64_t ahead = c + 2 < z.chunks ? s.chunk : 0;
    const int64_t rows = (steps + kTileRows - 1) / kTileRows * kTileRows;
    const ScalarScanGroupChunk group(s, z, shared, b, h / (s.heads / s.groups), c);
    const ChunkDecay decay(s, z.Q, row, steps, h);
    pack(steps, s.P, s.v + row * s.v_stride + h * s.P, s.v_stride, ahead * s.v_stride, z.Q, z.P, w.v);
    prepare_chunk(z, rows, decay, group, w);
    multiply({.rows = rows,
              .columns = z.P,
              .a = {group.q, z.N, 1},
              .b = {before, z.P},
              .depth = s.N,
              .out = w.y,
              .out_step = z.P,
              .scale = decay.from_start,
              .triangle = Triangle::kUpToRow,
              .a2 = {w.M, z.Q, 1},
              .b2 = {w.v, z.P}});
    unpack(steps, s.P, w.y, z.P, ahead * y_step, y + row * y_step + h * s.P, y_step);
    decay.advance_state(z, group, w.weighted, steps, before, state);
    before = state;
    if (checkpoints != nullptr && c + 1 < z.chunks && (c + 1) % kChunksOfCheckpoint == 0)
      unpack(s.N, s.P, state, z.P, 0, checkpoints + checkpoint_at(s, z, b, h, c + 1), s.P);
  }
  if (!direct) unpack(s.N, s.P, state, z.P, 0, state_out + head, s.P);
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(scalar_recurrence);
HWY_EXPORT(share_group_chunk);
HWY_EXPORT(scalar_chunks);

namespace {

void check(const ScalarScan& s) {
  BROOD_ASSERT(s.B >= 1 && s.T >= 1 && s.P >= 1 && s.N >= 1 && s.groups >= 1 && s.heads % s.groups == 0);
  BROOD_ASSERT(s.chunk >= kPadding && s.chunk % kPadding == 0 && s.chunk <= kScalarScanMaxChunk);
}

}  // namespace

int64_t scalar_scan_scratch(const ScalarScan& s) {
  return s.T < kScalarScanFewSteps ? 0 : group_chunks_floats(s, ScalarScanSizes(s)) + kPadding;
}

int64_t scalar_scan_checkpoint_size(const ScalarScan& s) {
  return s.B * s.heads * checkpoints_of_head(ScalarScanSizes(s)) * s.N * s.P;
}

void scalar_scan_recurrence(const ScalarScan& s, float* y, float* state_out) {
  check(s);
  const auto recurrence = HWY_DYNAMIC_DISPATCH(scalar_recurrence);
  for_scalar_scan_tasks(s, s.B * s.heads,
                        [&](int64_t i) { recurrence(s, i / s.heads, i % s.heads, y, state_out); });
}

void scalar_scan_forward(const ScalarScan& s, float* y, float* state_out, float* checkpoints,
                         float* scratch) {
  if (s.T < kScalarScanFewSteps) return scalar_scan_recurrence(s, y, state_out);
  check(s);
  const ScalarScanSizes z(s);
  float* shared = aligned_scratch(scratch);
  const auto share = HWY_DYNAMIC_DISPATCH(share_group_chunk);
  for_scalar_scan_tasks(s, s.B * s.groups * z.chunks, [&](int64_t i) {
    thread_local Scratch memory;
    const int64_t g = i / z.chunks;
    share(s, z, g / s.groups, g % s.groups, i % z.chunks, shared, memory.get<float>(z.N * z.Q));
  });
  const auto chunks = HWY_DYNAMIC_DISPATCH(scalar_chunks);
  for_scalar_scan_tasks(s, s.B * s.heads, [&](int64_t i) {
    thread_local Scratch memory;
    float* work = memory.get<float>(z.Q * (z.Q + 3 * z.P) + z.N * z.P);
    chunks(s, i / s.heads, i % s.heads, shared, y, state_out, checkpoints, work);
  });
}

}  // namespace brood::kernels
#endif
