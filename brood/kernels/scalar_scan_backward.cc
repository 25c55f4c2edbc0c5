// The scalar scan backward, chunk by chunk from the last to the first. With X_j = w_j v_j, G the gradient of
// the state at the chunk's end and S the state at its beginning (as forward kept it):
//
//   L_ij = e^{s_i − s_j}, j <= i      M_ij = L_ij (q_i·k_j)         D_ij = L_ij w_j (dy_i·v_j)
//   dX_j = Σ_{i>=j} M_ij dy_i + e^{s_Q − s_j} Gᵀ k_j
//   dk_j = Σ_{i>=j} D_ij q_i + e^{s_Q − s_j} G X_j       dq_i = Σ_{j<=i} D_ij k_j + e^{s_i} S dy_i
//   dS   = e^{s_Q} G + Σ_i e^{s_i} q_i dy_iᵀ
//   dv_j = w_j dX_j + d_j dy_j        dw_j = dX_j·v_j        dd_j = dy_j·v_j
//
// Scaling the decays of a chunk by hand shows what ds is: a step's output grows with s_i, and what it put in
// shrinks with it, so ds_i = dy_i·(y_i − d_i v_i) − dX_i·X_i, the last with ⟨G, S'⟩ beside it, and
// dg_t = Σ_{i>=t} ds_i. No product of T by T numbers is made for it.
//
// The heads of a group share q and k, so their D are added up before dk and dq make products of them. What
// else dk and dq are made of comes as [N][Q], with the states as left operands, which are then read as they
// lie; turned round are only v and dy, which are smaller, and the sums over all heads. A task is a few heads
// of one group; it adds up its heads in its own memory, and the tasks' parts are added in the order of the
// tasks.
#include "brood/base/error.h"
#include "brood/kernels/scalar_scan.h"
#include "brood/kernels/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/scalar_scan_backward.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/scalar_scan-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

// Memory of a task.
struct Work {
  float *v, *dy, *y, *dX, *weighted;  // [Q][P]; weighted: e^{s_Q − s_j} w_j v_j or e^{s_i} dy_i
  float *v_turned, *dy_turned;        // [P][Q]
  float *M, *Z;                       // [Q][Q]; Z: dy_i·v_j
  float* G;                           // [N][P]
  float* states;                      // [kChunksOfCheckpoint][N][P], at the beginnings of chunks
  explicit Work(const ScalarScanSizes& z, float* memory) {
    auto take = [&](int64_t n) {
      float* at = memory;
      memory += n;
      return at;
    };
    for (float** rows : {&v, &dy, &y, &dX, &weighted, &v_turned, &dy_turned}) *rows = take(z.Q * z.P);
    for (float** square : {&M, &Z}) *square = take(z.Q * z.Q);
    G = take(z.N * z.P);
    states = take(kChunksOfCheckpoint * z.N * z.P);
  }
};

// A chunk of a head, wherever it is.
struct Place {
  int64_t b, h, c, row, steps;
  int64_t ahead;  // rows to those wanted next
  Place(const ScalarScan& s, int64_t stream, int64_t head, int64_t chunk)
      : b(stream),
        h(head),
        c(chunk),
        row(b * s.T + c * s.chunk),
        steps(steps_of_chunk(s, c)),
        ahead(c > 0 ? -s.chunk : 0) {}
};

// The states at the beginnings of the chunks [begin, end).
void make_states(const ScalarScan& s, const ScalarScanSizes& z, const ScalarScanBackward& from, int64_t b,
                 int64_t h, int64_t begin, int64_t end, const ScalarScanBackwardMemory& memory,
                 const Work& w) {
  const float* kept = begin == 0 ? s.state_in + (b * s.heads + h) * s.N * s.P
                                 : from.checkpoints + checkpoint_at(s, z, b, h, begin);
  pack(s.N, s.P, kept, s.P, 0, z.N, z.P, w.states);
  for (int64_t c = begin; c + 1 < end; ++c) {
    const Place at(s, b, h, c);
    const ChunkDecay decay(s, z.Q, at.row, at.steps, h);
    pack(at.steps, s.P, s.v + at.row * s.v_stride + h * s.P, s.v_stride, 0, z.Q, z.P, w.v);
    decay.weigh_for_end(z, w.v, w.weighted);
    float* state = w.states + (c - begin) * z.N * z.P;
    decay.advance_state(z, ScalarScanGroupChunk(s, z, memory.shared, b, h / (s.heads / s.groups), c),
                        w.weighted, at.steps, state, state + z.N * z.P);
  }
}

// rows[r][i] ← rows[r][i]·factor[i]
HWY_INLINE void scale_columns(int64_t rows, int64_t columns, const float* factor, float* x) {
  const F d;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < columns; i += kLanes)
      hn::Store(hn::Mul(hn::Load(d, x + r * columns + i), hn::Load(d, factor + i)), d, x + r * columns + i);
}

// M, and D onto the task's, with the right operands of dk and dq: v and dy turned, with what they are
// weighted by.
void prepare_chunk(const ScalarScan& s, const ScalarScanSizes& z, const Place& at, const ChunkDecay& decay,
                   const ScalarScanGroupChunk& group, const ScalarScanBackward& from, const Work& w,
                   bool first, float* D) {
  const F d;
  const int64_t row_step = s.heads * s.P, row = at.row * row_step + at.h * s.P;
  pack(at.steps, s.P, s.v + at.row * s.v_stride + at.h * s.P, s.v_stride, at.ahead * s.v_stride, z.Q, z.P,
       w.v);
  pack(at.steps, s.P, from.dy + row, row_step, at.ahead * row_step, z.Q, z.P, w.dy);
  pack(at.steps, s.P, from.y + row, row_step, at.ahead * row_step, z.Q, z.P, w.y);
  turn(z.P, z.Q, w.v, z.P, w.v_turned, z.Q);
  turn(z.P, z.Q, w.dy, z.P, w.dy_turned, z.Q);
  multiply({.rows = z.Q,
            .columns = z.Q,
            .a = {w.dy, z.P, 1},
            .b = {w.v_turned, z.Q},
            .depth = s.P,
            .out = w.Z,
            .out_step = z.Q});
  if (first) std::fill_n(D, z.Q * z.Q, 0.0f);
  for (int64_t i = 0; i < z.Q; ++i) {
    for (int64_t j = i * z.Q; j < i * z.Q + triangle_columns(i); j += kLanes) {
      const V L = decay.row(i, j - i * z.Q), weighted = hn::Mul(L, hn::Load(d, decay.weight + j - i * z.Q));
      hn::Store(hn::Mul(L, hn::Load(d, group.products + j)), d, w.M + j);
      hn::Store(hn::MulAdd(weighted, hn::Load(d, w.Z + j), hn::Load(d, D + j)), d, D + j);
    }
  }
  HWY_ALIGN float for_end[kScalarScanMaxChunk];
  for (int64_t j = 0; j < z.Q; ++j) for_end[j] = decay.to_end[j] * decay.weight[j];
  scale_columns(z.P, z.Q, for_end, w.v_turned);
  scale_columns(z.P, z.Q, decay.from_start, w.dy_turned);
}

// ⟨G, S'⟩, S' being the state after the chunk, rows of `step`.
double gain_of_later(const ScalarScan& s, const ScalarScanSizes& z, const float* G, const float* after,
                     int64_t step) {
  const F d;
  const hn::CappedTag<float, 1> one;
  double total = 0;
  for (int64_t n = 0; n < s.N; ++n) {
    auto sum = hn::Zero(d);
    auto rest = hn::Zero(one);
    const float *g = G + n * z.P, *state = after + n * step;
    int64_t p = 0;
    for (; p + kLanes <= s.P; p += kLanes) sum = hn::MulAdd(hn::Load(d, g + p), hn::LoadU(d, state + p), sum);
    for (; p < s.P; ++p) rest = hn::MulAdd(hn::LoadU(one, g + p), hn::LoadU(one, state + p), rest);
    total += double(hn::GetLane(hn::SumOfLanes(d, sum))) + double(hn::GetLane(rest));
  }
  return total;
}

// What a step's own row gives: dv, and the gradients of its decay, weight and skip. dX becomes dv.
void finish_rows(const ScalarScan& s, const ScalarScanSizes& z, const Place& at, const ChunkDecay& decay,
                 double later, const ScalarScanGradients& g, const ScalarScanBackwardMemory& memory,
                 const Work& w) {
  const F d;
  double gain = later;
  for (int64_t i = at.steps - 1; i >= 0; --i) {
    const int64_t row = at.row + i, kept = at.h * s.B * s.T + row;
    const V weight = hn::Set(d, decay.weight[i]), skip = hn::Set(d, decay.skip[i]);
    V dX_v = hn::Zero(d), dy_v = hn::Zero(d), dy_y = hn::Zero(d);
    for (int64_t p = i * z.P; p < (i + 1) * z.P; p += kLanes) {
      const V v = hn::Load(d, w.v + p), dy = hn::Load(d, w.dy + p), dX = hn::Load(d, w.dX + p);
      dX_v = hn::MulAdd(dX, v, dX_v);
      dy_v = hn::MulAdd(dy, v, dy_v);
      dy_y = hn::MulAdd(dy, hn::Load(d, w.y + p), dy_y);
      hn::Store(hn::MulAdd(weight, dX, hn::Mul(skip, dy)), d, w.dX + p);
    }
    const float dweight = hn::GetLane(hn::SumOfLanes(d, dX_v)), dskip = hn::GetLane(hn::SumOfLanes(d, dy_v));
    gain += double(hn::GetLane(hn::SumOfLanes(d, dy_y))) - double(decay.skip[i]) * double(dskip) -
            double(decay.weight[i]) * double(dweight);
    memory.dlog_decay[kept] = float(gain);
    memory.dweight[kept] = dweight;
    memory.dskip[kept] = dskip;
    if (g.v == nullptr) continue;
    float* dv = g.v + row * g.v_stride + at.h * s.P;
    over_row(s.P, [&](auto tag, int64_t p) HWY_ATTR {
      if (at.ahead != 0) hwy::Prefetch(dv + at.ahead * g.v_stride + p);
      hn::StoreU(hn::Add(hn::LoadU(tag, dv + p), hn::LoadU(tag, w.dX + i * z.P + p)), tag, dv + p);
    });
  }
}

// A task's sums over its heads, of one chunk. first: nothing stands there yet.
struct Sums {
  float *dk, *dq, *D;
  bool first;
  Sums(const ScalarScanBackwardMemory& memory, const ScalarScanSizes& z, int64_t task, int64_t c,
       bool first_head)
      : dk(memory.dk + (task * z.chunks + c) * z.N * z.Q),
        dq(memory.dq + (task * z.chunks + c) * z.N * z.Q),
        D(memory.D + (task * z.chunks + c) * z.Q * z.Q),
        first(first_head) {}
};

// One chunk of one head, whose state at the beginning is `before`. later: ⟨G, S'⟩.
void backward_chunk(const ScalarScan& s, const ScalarScanSizes& z, const ScalarScanBackward& from,
                    const Place& at, const float* before, bool G_given, double later,
                    const ScalarScanGroupChunk& group, const ScalarScanGradients& g,
                    const ScalarScanBackwardMemory& memory, const Work& w, const Sums& sums) {
  const ChunkDecay decay(s, z.Q, at.row, at.steps, at.h);
  prepare_chunk(s, z, at, decay, group, from, w, sums.first, sums.D);
  multiply({.rows = z.Q,
            .columns = z.P,
            .a = {group.k, z.N, 1},
            .b = {w.G, z.P},
            .depth = G_given ? s.N : 0,
            .out = w.dX,
            .out_step = z.P,
            .scale = decay.to_end,
            .triangle = Triangle::kFromRow,
            .a2 = {w.M, 1, z.Q},
            .b2 = {w.dy, z.P}});
  finish_rows(s, z, at, decay, later, g, memory, w);
  const float keep = sums.first ? 0.0f : 1.0f;
  const auto add_states = [&](const float* states, const float* turned, int64_t depth, float* to) HWY_ATTR {
    multiply({.rows = z.N,
              .columns = z.Q,
              .a = {states, z.P, 1},
              .b = {turned, z.Q},
              .depth = depth,
              .out = to,
              .out_step = z.Q,
              .keep = keep,
              .old = to});
  };
  if (g.k != nullptr) add_states(w.G, w.v_turned, G_given ? s.P : 0, sums.dk);
  if (g.q != nullptr) add_states(before, w.dy_turned, s.P, sums.dq);
  if (at.c == 0 && g.state_in == nullptr) return;
  for (int64_t i = 0; i < z.Q; ++i) scale_row(z.P, decay.from_start[i], w.dy + i * z.P, w.weighted + i * z.P);
  multiply({.rows = z.N,
            .columns = z.P,
            .a = {group.q, 1, z.N},
            .b = {w.weighted, z.P},
            .depth = at.steps,
            .out = w.G,
            .out_step = z.P,
            .keep = decay.whole,
            .old = w.G});
}

// All chunks of head h.
void backward_head(const ScalarScan& s, const ScalarScanSizes& z, const ScalarScanBackward& from, int64_t b,
                   int64_t h, const ScalarScanGradients& g, const ScalarScanBackwardMemory& memory,
                   const Work& w, int64_t task, bool first) {
  const bool given = from.dstate_out != nullptr;
  const int64_t head = (b * s.heads + h) * s.N * s.P, state_floats = z.N * z.P;
  pack(given ? s.N : 0, s.P, given ? from.dstate_out + head : nullptr, s.P, 0, z.N, z.P, w.G);
  const float* after = from.state_out + head;
  int64_t after_step = s.P;
  for (int64_t end = z.chunks; end > 0;) {
    const int64_t begin = (end - 1) / kChunksOfCheckpoint * kChunksOfCheckpoint;
    make_states(s, z, from, b, h, begin, end, memory, w);
    for (int64_t c = end - 1; c >= begin; --c) {
      const float* before = w.states + (c - begin) * state_floats;
      const bool G_given = given || c + 1 < z.chunks;
      const double later = G_given ? gain_of_later(s, z, w.G, after, after_step) : 0;
      const ScalarScanGroupChunk group(s, z, memory.shared, b, h / (s.heads / s.groups), c);
      backward_chunk(s, z, from, Place(s, b, h, c), before, G_given, later, group, g, memory, w,
                     Sums(memory, z, task, c, first));
      after = before;
      after_step = z.P;
    }
    // The next span's states take the place of this one's first.
    after = begin == 0 ? nullptr : from.checkpoints + checkpoint_at(s, z, b, h, begin);
    after_step = s.P;
    end = begin;
  }
}

// The heads of a task.
void scalar_backward(const ScalarScan& s, const ScalarScanBackward& from, int64_t task,
                     const ScalarScanGradients& g, const ScalarScanBackwardMemory& memory, float* work) {
  const ScalarScanSizes z(s);
  const Work w(z, work);
  const int64_t b = task / memory.tasks_of_group / s.groups, group = task / memory.tasks_of_group % s.groups;
  const int64_t per_group = s.heads / s.groups, begin = task % memory.tasks_of_group * kHeadsOfTask;
  const int64_t end = std::min(begin + kHeadsOfTask, per_group);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t h = group * per_group + i;
    backward_head(s, z, from, b, h, g, memory, w, task, i == begin);
    if (g.state_in == nullptr) continue;
    for (int64_t n = 0; n < s.N; ++n) {
      float* to = g.state_in + ((b * s.heads + h) * s.N + n) * s.P;
      over_row(s.P, [&](auto d, int64_t p) HWY_ATTR {
        hn::StoreU(hn::Add(hn::LoadU(d, to + p), hn::LoadU(d, w.G + n * z.P + p)), d, to + p);
      });
    }
  }
}

// parts[0] += the other parts, in order; they lie `step` apart.
HWY_INLINE void add_parts(int64_t parts, int64_t step, int64_t n, float* part) {
  const F d;
  for (int64_t i = 0; i < n; i += kLanes) {
    V sum = hn::Load(d, part + i);
    for (int64_t k = 1; k < parts; ++k) sum = hn::Add(sum, hn::Load(d, part + k * step + i));
    hn::Store(sum, d, part + i);
  }
}

// dk and dq of chunk c of a group (counted through the streams), from the tasks' parts. rows: Q·N floats to
// work in.
void finish_group_chunk(const ScalarScan& s, const ScalarScanSizes& z, int64_t group, int64_t c,
                        const ScalarScanGradients& g, const ScalarScanBackwardMemory& memory, float* rows) {
  const int64_t parts = memory.tasks_of_group, b = group / s.groups, in_row = group % s.groups * s.N;
  const int64_t row = b * s.T + c * s.chunk, square = z.Q * z.Q, size = z.N * z.Q;
  const ScalarScanGroupChunk shared(s, z, memory.shared, b, group % s.groups, c);
  const Sums sums(memory, z, group * parts, c, false);
  add_parts(parts, z.chunks * square, square, sums.D);
  const auto finish = [&](float* part, Triangle triangle, const Left& a, const float* right, float* to,
                          int64_t to_step) HWY_ATTR {
    add_parts(parts, z.chunks * size, size, part);
    turn(z.Q, z.N, part, z.Q, rows, z.N);
    multiply({.rows = z.Q,
              .columns = z.N,
              .a = a,
              .b = {right, z.N},
              .depth = 0,
              .out = rows,
              .out_step = z.N,
              .keep = 1,
              .old = rows,
              .triangle = triangle,
              .a2 = a,
              .b2 = {right, z.N}});
    for (int64_t i = 0; i < steps_of_chunk(s, c); ++i) {
      over_row(s.N, [&](auto tag, int64_t n) HWY_ATTR {
        float* at = to + (row + i) * to_step + in_row + n;
        hn::StoreU(hn::Add(hn::LoadU(tag, at), hn::LoadU(tag, rows + i * z.N + n)), tag, at);
      });
    }
  };
  if (g.k != nullptr) finish(sums.dk, Triangle::kFromRow, {sums.D, 1, z.Q}, shared.q, g.k, g.k_stride);
  if (g.q != nullptr) finish(sums.dq, Triangle::kUpToRow, {sums.D, z.Q, 1}, shared.k, g.q, g.q_stride);
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(share_group_chunk);
HWY_EXPORT(scalar_backward);
HWY_EXPORT(finish_group_chunk);

namespace {

// to[row][h] += from[h][row].
void add_steps(const ScalarScan& s, const float* from, float* to, int64_t stride) {
  if (to == nullptr) return;
  const int64_t rows = s.B * s.T;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t h = 0; h < s.heads; ++h) to[row * stride + h] += from[h * rows + row];
}

}  // namespace

int64_t scalar_scan_backward_scratch(const ScalarScan& s) {
  return ScalarScanBackwardMemory(s, ScalarScanSizes(s), nullptr).size + kPadding;
}

void scalar_scan_backward(const ScalarScan& s, const float* y, const float* state_out,
                          const float* checkpoints, const float* dy, const float* dstate_out,
                          const ScalarScanGradients& g, float* scratch) {
  const ScalarScanSizes z(s);
  const ScalarScanBackwardMemory memory(s, z, aligned_scratch(scratch));
  const ScalarScanBackward from{y, state_out, checkpoints, dy, dstate_out};
  const auto share = HWY_DYNAMIC_DISPATCH(share_group_chunk);
  for_scalar_scan_tasks(s, s.B * s.groups * z.chunks, [&](int64_t i) {
    thread_local Scratch turned;
    const int64_t group = i / z.chunks;
    share(s, z, group / s.groups, group % s.groups, i % z.chunks, memory.shared,
          turned.get<float>(z.N * z.Q));
  });
  const auto backward = HWY_DYNAMIC_DISPATCH(scalar_backward);
  for_scalar_scan_tasks(s, s.B * s.groups * memory.tasks_of_group, [&](int64_t task) {
    thread_local Scratch work;
    backward(s, from, task, g, memory, work.get<float>(backward_work_floats(z)));
  });
  const auto finish = HWY_DYNAMIC_DISPATCH(finish_group_chunk);
  for_scalar_scan_tasks(s, s.B * s.groups * z.chunks, [&](int64_t i) {
    thread_local Scratch rows;
    finish(s, z, i / z.chunks, i % z.chunks, g, memory, rows.get<float>(z.N * z.Q));
  });
  add_steps(s, memory.dlog_decay, g.log_decay, g.log_decay_stride);
  add_steps(s, memory.dweight, g.weight, g.weight_stride);
  add_steps(s, memory.dskip, g.skip, g.skip_stride);
}

}  // namespace brood::kernels
#endif
