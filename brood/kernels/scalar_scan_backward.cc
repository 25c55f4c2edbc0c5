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
// A task is a few heads of one group; dk and dq of its heads are added up in its own memory, and the tasks'
// parts in the order of the tasks.
#include "brood/base/error.h"
#include "brood/kernels/scalar_scan.h"
#include "brood/kernels/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/scalar_scan_backward.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/scalar_scan-inl.h"
#include "hwy/highway.h"

#ifndef BROOD_KERNELS_SCALAR_SCAN_BACKWARD_TASKS_
#define BROOD_KERNELS_SCALAR_SCAN_BACKWARD_TASKS_
namespace brood::kernels {

constexpr int64_t kHeadsOfTask = 4;

struct ScalarScanBackward {
  const float *y, *state_out, *checkpoints, *dy, *dstate_out;
};

// How the caller's scratch is divided.
struct BackwardMemory {
  int64_t tasks_of_group;
  float* shared;                        // GroupChunks
  float *dk, *dq;                       // [B·groups·tasks_of_group][T][N padded]
  float *dlog_decay, *dweight, *dskip;  // [heads][B·T]
  int64_t size;                         // of everything
  BackwardMemory(const ScalarScan& s, const ScalarScanSizes& z, float* memory)
      : tasks_of_group((s.heads / s.groups + kHeadsOfTask - 1) / kHeadsOfTask), shared(memory) {
    const int64_t part = s.B * s.groups * tasks_of_group * s.T * z.N, steps = s.heads * s.B * s.T;
    const int64_t group = group_chunks_floats(s, z);
    dk = memory + group;
    dq = dk + part;
    dlog_decay = dq + part;
    dweight = dlog_decay + steps;
    dskip = dweight + steps;
    size = group + 2 * part + 3 * steps;
  }
};

}  // namespace brood::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

// Memory of a task.
struct Work {
  float *v, *X, *v_turned;      // [Q][P], [Q][P], [P][Q]
  float *dy, *dy_decayed, *dX;  // [Q][P]; e^{s_i} dy_i
  float *M, *D;                 // [Q][Q]
  float *G, *turned;            // [N][P], [P][N]
  Work(const ScalarScanSizes& z, float* memory) {
    float** const rows[] = {&v, &X, &v_turned, &dy, &dy_decayed, &dX};
    for (float** at : rows) {
      *at = memory;
      memory += z.Q * z.P;
    }
    M = memory;
    D = M + z.Q * z.Q;
    G = D + z.Q * z.Q;
    turned = G + z.N * z.P;
  }
};

// A chunk of a head, wherever it is.
struct Place {
  int64_t b, h, c, row, steps;
  bool later;  // G is not zero
};

// v, X, dy, M and D.
void prepare_head_chunk(const ScalarScan& s, const ScalarScanSizes& z, const Place& at,
                        const ChunkDecay& decay, const GroupChunk& group, const float* dy, const Work& w) {
  const F d;
  pack(at.steps, s.P, s.v + at.row * s.v_stride + at.h * s.P, s.v_stride, z.Q, z.P, w.v);
  pack(at.steps, s.P, dy + (at.row * s.heads + at.h) * s.P, s.heads * s.P, z.Q, z.P, w.dy);
  turn(z.P, z.Q, w.v, z.P, w.v_turned, z.Q);
  for (int64_t i = 0; i < z.Q; ++i) {
    const auto weight = hn::Set(d, decay.weight[i]), from_start = hn::Set(d, decay.from_start[i]);
    for (int64_t p = i * z.P; p < (i + 1) * z.P; p += kLanes) {
      hn::Store(hn::Mul(weight, hn::Load(d, w.v + p)), d, w.X + p);
      hn::Store(hn::Mul(from_start, hn::Load(d, w.dy + p)), d, w.dy_decayed + p);
    }
    for (int64_t j = 0; j < z.Q; j += kLanes) {
      const V L = decay.row(i, j);
      hn::Store(hn::Mul(L, hn::Load(d, group.products + i * z.Q + j)), d, w.M + i * z.Q + j);
      hn::Store(hn::Mul(L, hn::Load(d, decay.weight + j)), d, w.D + i * z.Q + j);
    }
  }
  multiply({.rows = z.Q, .columns = z.Q, .a = {w.dy, z.P, 1}, .b = {w.v_turned, z.Q}, .depth = s.P},
           [&](int64_t i, int64_t j, V sum) HWY_ATTR {
             float* to = w.D + i * z.Q + j;
             hn::Store(hn::Mul(sum, hn::Load(d, to)), d, to);
           });
}

HWY_INLINE float dot(int64_t n, const float* a, const float* b) {
  const F d;
  const hn::CappedTag<float, 1> one;
  auto sum = hn::Zero(d);
  auto rest = hn::Zero(one);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  for (; i < n; ++i) rest = hn::MulAdd(hn::LoadU(one, a + i), hn::LoadU(one, b + i), rest);
  return hn::GetLane(hn::SumOfLanes(d, sum)) + hn::GetLane(rest);
}

// ⟨G, S'⟩, S' being the state after the chunk.
double gain_of_later(const ScalarScan& s, const ScalarScanSizes& z, const ScalarScanBackward& from,
                     const Place& at, const float* G) {
  if (!at.later) return 0;
  const float* after = at.c + 1 < z.chunks ? from.checkpoints + checkpoint_at(s, z, at.b, at.h, at.c + 1)
                                           : from.state_out + (at.b * s.heads + at.h) * s.N * s.P;
  double sum = 0;
  for (int64_t n = 0; n < s.N; ++n) sum += double(dot(s.P, G + n * z.P, after + n * s.P));
  return sum;
}

// What a step's own row gives: dv, and the gradients of its decay, weight and skip.
void finish_rows(const ScalarScan& s, const ScalarScanSizes& z, const ScalarScanBackward& from,
                 const Place& at, const ChunkDecay& decay, double later, const ScalarScanGradients& g,
                 const BackwardMemory& memory, const Work& w) {
  double sum = later;
  for (int64_t i = at.steps - 1; i >= 0; --i) {
    const int64_t row = at.row + i, kept = at.h * s.B * s.T + row;
    const float *v = w.v + i * z.P, *dy = w.dy + i * z.P, *dX = w.dX + i * z.P;
    if (g.v != nullptr) {
      float* dv = g.v + row * g.v_stride + at.h * s.P;
      over_row(s.P, [&](auto d, int64_t p) HWY_ATTR {
        const auto skipped =
            hn::MulAdd(hn::Set(d, decay.skip[i]), hn::LoadU(d, dy + p), hn::LoadU(d, dv + p));
        hn::StoreU(hn::MulAdd(hn::Set(d, decay.weight[i]), hn::LoadU(d, dX + p), skipped), d, dv + p);
      });
    }
    const float dX_v = dot(z.P, dX, v), dy_v = dot(z.P, dy, v);
    const float dy_y = dot(s.P, dy, from.y + (row * s.heads + at.h) * s.P);
    sum += double(dy_y) - double(decay.skip[i]) * double(dy_v) - double(decay.weight[i]) * double(dX_v);
    memory.dlog_decay[kept] = float(sum);
    memory.dweight[kept] = dX_v;
    memory.dskip[kept] = dy_v;
  }
}

// to (+)= x for the steps of a chunk, rows of z.N numbers.
template <class Operands>
HWY_INLINE void add_rows(const Place& at, const ScalarScanSizes& z, bool first, float* to,
                         const Operands& operands) {
  const F d;
  multiply(operands, [&](int64_t i, int64_t n, V sum) HWY_ATTR {
    if (i >= at.steps) return;
    float* out = to + i * z.N + n;
    hn::Store(first ? sum : hn::Add(sum, hn::Load(d, out)), d, out);
  });
}

// One chunk of one head. dk, dq: the task's rows of this chunk; first: nothing stands there yet.
void backward_chunk(const ScalarScan& s, const ScalarScanSizes& z, const ScalarScanBackward& from,
                    const Place& at, const GroupChunk& group, const ScalarScanGradients& g,
                    const BackwardMemory& memory, const Work& w, bool first, float* dk, float* dq) {
  const F d;
  const ChunkDecay decay(s, z.Q, at.row, at.steps, at.h);
  const double later = gain_of_later(s, z, from, at, w.G);
  prepare_head_chunk(s, z, at, decay, group, from.dy, w);
  multiply({.rows = z.Q,
            .columns = z.P,
            .a = {group.k, z.N, 1},
            .b = {w.G, z.P},
            .depth = at.later ? s.N : 0,
            .scale = decay.to_end,
            .triangle = Triangle::kFromRow,
            .a2 = {w.M, 1, z.Q},
            .b2 = {w.dy, z.P}},
           [&](int64_t j, int64_t p, V sum) HWY_ATTR { hn::Store(sum, d, w.dX + j * z.P + p); });
  finish_rows(s, z, from, at, decay, later, g, memory, w);
  if (g.k != nullptr) {
    if (at.later) turn(z.P, z.N, w.G, z.P, w.turned, z.N);
    add_rows(at, z, first, dk,
             TwoProducts{.rows = z.Q,
                         .columns = z.N,
                         .a = {w.X, z.P, 1},
                         .b = {w.turned, z.N},
                         .depth = at.later ? s.P : 0,
                         .scale = decay.to_end,
                         .triangle = Triangle::kFromRow,
                         .a2 = {w.D, 1, z.Q},
                         .b2 = {group.q, z.N}});
  }
  if (g.q != nullptr) {
    const float* before = at.c == 0 ? s.state_in + (at.b * s.heads + at.h) * s.N * s.P
                                    : from.checkpoints + checkpoint_at(s, z, at.b, at.h, at.c);
    turn(s.P, s.N, before, s.P, w.turned, z.N);
    add_rows(at, z, first, dq,
             TwoProducts{.rows = z.Q,
                         .columns = z.N,
                         .a = {w.dy, z.P, 1},
                         .b = {w.turned, z.N},
                         .depth = s.P,
                         .scale = decay.from_start,
                         .triangle = Triangle::kUpToRow,
                         .a2 = {w.D, z.Q, 1},
                         .b2 = {group.k, z.N}});
  }
  if (at.c == 0 && g.state_in == nullptr) return;
  const auto whole = hn::Set(d, decay.whole);
  multiply({.rows = z.N, .columns = z.P, .a = {group.q, 1, z.N}, .b = {w.dy_decayed, z.P}, .depth = at.steps},
           [&](int64_t n, int64_t p, V sum) HWY_ATTR {
             float* to = w.G + n * z.P + p;
             hn::Store(hn::MulAdd(whole, hn::Load(d, to), sum), d, to);
           });
}

// The heads of a task, all their chunks.
void scalar_backward(const ScalarScan& s, const ScalarScanBackward& from, int64_t task,
                     const ScalarScanGradients& g, const BackwardMemory& memory, float* work) {
  const ScalarScanSizes z(s);
  const Work w(z, work);
  const int64_t b = task / memory.tasks_of_group / s.groups, group = task / memory.tasks_of_group % s.groups;
  const int64_t per_group = s.heads / s.groups, begin = task % memory.tasks_of_group * kHeadsOfTask;
  const int64_t end = std::min(begin + kHeadsOfTask, per_group), size = s.N * s.P;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t h = group * per_group + i;
    const bool given = from.dstate_out != nullptr;
    const float* dstate = given ? from.dstate_out + (b * s.heads + h) * size : nullptr;
    pack(given ? s.N : 0, s.P, dstate, s.P, z.N, z.P, w.G);
    // The padding of what is turned into it stays zero.
    std::fill_n(w.turned, z.N * z.P, 0.0f);
    for (int64_t c = z.chunks - 1; c >= 0; --c) {
      const Place at{b, h, c, b * s.T + c * s.chunk, steps_of_chunk(s, c), given || c + 1 < z.chunks};
      const int64_t rows = (task * s.T + c * s.chunk) * z.N;
      backward_chunk(s, z, from, at, GroupChunk(s, z, memory.shared, b, group, c), g, memory, w, i == begin,
                     memory.dk + rows, memory.dq + rows);
    }
    if (g.state_in == nullptr) continue;
    for (int64_t n = 0; n < s.N; ++n) {
      float* to = g.state_in + (b * s.heads + h) * size + n * s.P;
      over_row(s.P, [&](auto d, int64_t p) HWY_ATTR {
        hn::StoreU(hn::Add(hn::LoadU(d, to + p), hn::LoadU(d, w.G + n * z.P + p)), d, to + p);
      });
    }
  }
}

// to += the parts of a group's tasks, at one row, in the order of the tasks.
void add_task_parts(int64_t parts, int64_t part_step, int64_t n, const float* from, float* to) {
  over_row(n, [&](auto d, int64_t i) HWY_ATTR {
    auto sum = hn::LoadU(d, from + i);
    for (int64_t part = 1; part < parts; ++part)
      sum = hn::Add(sum, hn::LoadU(d, from + part * part_step + i));
    hn::StoreU(hn::Add(hn::LoadU(d, to + i), sum), d, to + i);
  });
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(share_group_chunk);
HWY_EXPORT(scalar_backward);
HWY_EXPORT(add_task_parts);

namespace {

// to[row][h] += from[h][row].
void add_steps(const ScalarScan& s, const float* from, float* to, int64_t stride) {
  if (to == nullptr) return;
  const int64_t rows = s.B * s.T;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t h = 0; h < s.heads; ++h) to[row * stride + h] += from[h * rows + row];
}

void add_parts(const ScalarScan& s, const ScalarScanSizes& z, const BackwardMemory& memory, const float* from,
               float* to, int64_t stride) {
  if (to == nullptr) return;
  const auto add = HWY_DYNAMIC_DISPATCH(add_task_parts);
  const int64_t parts = memory.tasks_of_group;
  for_scalar_scan_tasks(s, s.B * s.T, [&](int64_t row) {
    const int64_t b = row / s.T, t = row % s.T;
    for (int64_t g = 0; g < s.groups; ++g)
      add(parts, s.T * z.N, s.N, from + ((b * s.groups + g) * parts * s.T + t) * z.N,
          to + row * stride + g * s.N);
  });
}

}  // namespace

int64_t scalar_scan_backward_scratch(const ScalarScan& s) {
  return BackwardMemory(s, ScalarScanSizes(s), nullptr).size + kPadding;
}

void scalar_scan_backward(const ScalarScan& s, const float* y, const float* state_out,
                          const float* checkpoints, const float* dy, const float* dstate_out,
                          const ScalarScanGradients& g, float* scratch) {
  const ScalarScanSizes z(s);
  const BackwardMemory memory(s, z, aligned(scratch));
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
    backward(s, from, task, g, memory, work.get<float>(6 * z.Q * z.P + 2 * z.Q * z.Q + 2 * z.N * z.P));
  });
  add_parts(s, z, memory, memory.dk, g.k, g.k_stride);
  add_parts(s, z, memory, memory.dq, g.q, g.q_stride);
  add_steps(s, memory.dlog_decay, g.log_decay, g.log_decay_stride);
  add_steps(s, memory.dweight, g.weight, g.weight_stride);
  add_steps(s, memory.dskip, g.skip, g.skip_stride);
}

}  // namespace brood::kernels
#endif
