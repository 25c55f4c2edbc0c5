// recall(): the read of the past by synapses, in chunks.
//
// With R the rotated neurons of a chunk's T steps and ρ the synapses before it, per stream and head:
//
//   S_ts = λ^(t−s) ⟨R_t, R_s⟩ for s < t, else 0          a_t = Σ_s S_ts x_s + λ^t ρᵀR_t
//   ρ ← λ^T ρ + Σ_t λ^(T−t) R_t x_tᵀ
//
// This is the recurrence a_t = ρᵀR_t, ρ ← λ(ρ + R_t x_tᵀ) for any cut of a stream into chunks. Memory: ρ is
// kept divided by exp(−faded) so that fading is a matter of one number; a write at step t then weighs
// λ^(T−t)/exp(−faded'). Before these weights grow out of proportion ρ itself is brought up to date.
//
// Backward, da given (ρ is a constant): G = dS + dSᵀ with dS_ts = λ^(t−s) ⟨da_t, x_s⟩ for s < t;
//   dR = G R + λ^t da ρᵀ,   dx_s += Σ_t S_ts da_t.
// Detached, R_s and x_s of the past are constants: G = dS, and dx gets nothing.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "brood/autograd/neurons.h"
#include "brood/base/threads.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/matmul.h"

namespace brood {

using kernels::Order;

namespace {

// Write weights stay below e^30: far from overflow, and e^30 times a rounding error is still relative to its
// own write.
constexpr double kMostFaded = 30;
constexpr int64_t kRowAlign = 16;  // rows of S are padded to whole vectors

// What a chunk does to the synapses of one stream.
struct StreamPlan {
  bool empty;        // at the start of the stream: ρ is zero whatever its memory holds
  float read_scale;  // exp(−faded) before the chunk
  float rescale;     // factor for ρ's memory before writing
  float* written;    // [T, D] x_t times its weight
};

// Everything forward, the write and backward know. Plain data: it is captured by the tape.
struct Recall {
  Tape* tape;
  NeuronSpace* space;
  const NeuronTiling* tiling;
  Neurons X;
  Var x, a;
  int64_t B, T, padded;  // padded: T rounded up, the row stride of S
  int64_t heads, N, D, n;
  double fade;
  bool detached;
  bool keep;  // the final state is wanted
  float* synapses;
  float* S;           // [B, heads, T, padded]
  float* powers;      // [T + 1] λ^k
  StreamPlan* plans;  // [B]
  uint64_t chunk_number;

  float* rho(int64_t b, int64_t neuron) const { return synapses + (b * n + neuron) * D; }
  float* scores(int64_t b, int64_t h) const { return S + (b * heads + h) * T * padded; }
  float* a_of(int64_t b, int64_t h) const { return a.value() + (b * T * heads + h) * D; }
  const float* x_of(int64_t b) const { return x.value() + b * T * D; }
  bool reads(int64_t b) const { return !plans[b].empty; }
  int64_t head_of_group(int64_t g) const { return g / tiling->groups_per_head; }
  // Rows of a power-of-two length, written a column at a time, would all fall upon the same sets of the L1
  // cache.
  int64_t column_stride() const { return padded + kRowAlign; }

  void plan(const Chunk& chunk, StateVar& faded);
  void forward();
  void write() const;
  void backward() const;

 private:
  void forward_dense();
  void forward_lists();
  void combine(const float* scores_parts, const float* read_parts) const;
  void mask_scores(int64_t b, int64_t h) const;
  void read_past(int64_t b, int64_t h, const float* read) const;
  void rescale_rows(int64_t b, int64_t neuron, int64_t count) const;
  void score_gradients(float* G) const;
  void backward_dense(Arena& scratch, const float* G, const float* da_scaled) const;
  void backward_lists(Arena& scratch, const float* G, const float* da_scaled) const;
};

// Memory for the rotated lists of a group's tiles, one tile and stream at a time.
struct RotatedMemory {
  kernels::RotatedTile tile;
  float* columns;  // [widest, column_stride] the tile neuron-major, or null
  float* dvalue;   // gradients, or null
};

RotatedMemory* allocate_rotated(Arena& arena, const Recall& op, bool gradients) {
  const int64_t groups = op.tiling->groups(), entries = op.T * op.tiling->widest + kernels::kListSlack;
  auto* memory = arena.allocate_array<RotatedMemory>(groups);
  for (int64_t g = 0; g < groups; ++g)
    memory[g] = {{op.T, 0, arena.allocate_array<uint32_t>(op.T + 1), arena.allocate_array<uint32_t>(entries),
                  arena.floats(entries)},
                 op.T > 1 ? arena.floats(op.tiling->widest * op.column_stride()) : nullptr,
                 gradients ? arena.floats(entries) : nullptr};
  return memory;
}

// Rotates the lists of a tile for stream b; with `columns` also their neuron-major form.
void rotate_tile(const Recall& op, int64_t tile, int64_t b, RotatedMemory& memory, bool columns) {
  if (columns)
    std::memset(memory.columns, 0, size_t(op.tiling->width(tile) * op.column_stride()) * sizeof(float));
  kernels::rotate_lists(op.space->rotary(), op.X.tile(tile, b * op.T, op.T), op.X.values.value(),
                        op.tiling->begin[size_t(tile)] % op.N, b * op.T, memory.tile,
                        columns ? memory.columns : nullptr, op.column_stride());
}

void Recall::plan(const Chunk& chunk, StateVar& faded) {
  Arena& memory = space->lasting(*tape);
  powers = memory.floats(T + 1);
  for (int64_t k = 0; k <= T; ++k) powers[k] = float(std::pow(fade, double(k)));
  plans = memory.allocate_array<StreamPlan>(B);
  const double rate = -std::log(fade);
  for (int64_t b = 0; b < B; ++b) {
    const bool empty = chunk.positions[b] == 0;
    const double before = empty ? 0 : double(faded.in.value()[b]), after = before + double(T) * rate;
    const bool lazy = after <= kMostFaded;
    plans[b] = {empty, float(std::exp(-before)), lazy ? 1.0f : float(std::exp(-after)), nullptr};
    if (keep) {
      faded.out.value()[b] = lazy ? float(after) : 0.0f;
      plans[b].written = memory.floats(T * D);
      for (int64_t t = 0; t < T; ++t) {
        const float weight =
            float(lazy ? std::exp(before + double(t) * rate) : std::pow(fade, double(T - t)));
        for (int64_t c = 0; c < D; ++c) plans[b].written[t * D + c] = weight * x_of(b)[t * D + c];
      }
    }
  }
}

void Recall::forward() {
  S = T > 1 ? space->lasting(*tape).floats(B * heads * T * padded) : nullptr;
  if (X.dense)
    forward_dense();
  else
    forward_lists();
}

// Keeps the strict lower triangle of the products, faded by distance.
void Recall::mask_scores(int64_t b, int64_t h) const {
  for (int64_t t = 0; t < T; ++t) {
    float* row = scores(b, h) + t * padded;
    if (fade != 1)
      for (int64_t s = 0; s < t; ++s) row[s] *= powers[t - s];
    std::memset(row + t, 0, size_t(padded - t) * sizeof(float));
  }
}

// Adds what was read from ρ, [T, D], to a.
void Recall::read_past(int64_t b, int64_t h, const float* read) const {
  for (int64_t t = 0; t < T; ++t) {
    const float scale = plans[b].read_scale * powers[t];
    float* row = a_of(b, h) + t * heads * D;
    for (int64_t c = 0; c < D; ++c) row[c] += scale * read[t * D + c];
  }
}

void Recall::rescale_rows(int64_t b, int64_t neuron, int64_t count) const {
  if (plans[b].empty)
    std::memset(rho(b, neuron), 0, size_t(count * D) * sizeof(float));
  else if (plans[b].rescale != 1)
    kernels::scale(count * D, plans[b].rescale, rho(b, neuron));
}

// ---- lists -----------------------------------------------------------------------------------------------

void Recall::forward_lists() {
  Arena& scratch = space->scratch();
  const int64_t groups = tiling->groups(), scores_size = T > 1 ? T * padded : 0;
  float* scores_parts = scratch.floats(groups * B * scores_size);
  float* read_parts = scratch.floats(groups * B * T * D);
  RotatedMemory* memory = allocate_rotated(scratch, *this, false);
  const bool writes = keep && !tape->recording();
  auto task = [&](int64_t g) {
    float* scores_part = scores_parts + g * B * scores_size;
    float* read_part = read_parts + g * B * T * D;
    std::memset(scores_part, 0, size_t(B * scores_size) * sizeof(float));
    for (int64_t b = 0; b < B; ++b)
      if (reads(b)) std::memset(read_part + b * T * D, 0, size_t(T * D) * sizeof(float));
    for (int64_t t = tiling->group[size_t(g)]; t < tiling->group[size_t(g) + 1]; ++t) {
      const int64_t begin = tiling->begin[size_t(t)], width = tiling->width(t);
      for (int64_t b = 0; b < B; ++b) {
        rotate_tile(*this, t, b, memory[g], T > 1);
        const kernels::RotatedTile& tile = memory[g].tile;
        const kernels::RowLists lists = tile.lists();
        float *past = rho(b, begin), *read = read_part + b * T * D;
        if (T > 1)
          kernels::accumulate_rows(lists, tile.value, memory[g].columns, column_stride(), padded,
                                   scores_part + b * scores_size, padded, true);
        if (writes && T == 1 && reads(b) && plans[b].rescale == 1) {
          kernels::read_and_write_rows(tile.offset[1], tile.index, tile.value, plans[b].written, D, past, D,
                                       read);
          continue;
        }
        if (reads(b)) kernels::accumulate_rows(lists, tile.value, past, D, D, read, D);
        if (writes) {
          rescale_rows(b, begin, width);
          kernels::scatter_rows(lists, tile.value, plans[b].written, D, D, past, D);
        }
      }
    }
  };
  parallel(groups, task);
  combine(scores_parts, read_parts);
}

// Adds up the groups' parts: S, then a.
void Recall::combine(const float* scores_parts, const float* read_parts) const {
  const int64_t per_head = tiling->groups_per_head;
  auto task = [&](int64_t i) {
    const int64_t b = i / heads, h = i % heads;
    const auto part = [&](const float* parts, int64_t size, int64_t k) {
      return parts + ((h * per_head + k) * B + b) * size;
    };
    if (T > 1) {
      for (int64_t k = 0; k < per_head; ++k) {
        const float* from = part(scores_parts, T * padded, k);
        if (k == 0)
          std::memcpy(scores(b, h), from, size_t(T * padded) * sizeof(float));
        else
          kernels::add_to(T * padded, from, scores(b, h));
      }
      mask_scores(b, h);
      kernels::matmul(Order::kPlain, Order::kPlain, T, D, T, scores(b, h), padded, x_of(b), D, false,
                      a_of(b, h), heads * D);
    } else {
      std::memset(a_of(b, h), 0, size_t(D) * sizeof(float));
    }
    if (reads(b))
      for (int64_t k = 0; k < per_head; ++k) read_past(b, h, part(read_parts, T * D, k));
  };
  parallel(B * heads, task);
}

void Recall::backward_lists(Arena& scratch, const float* G, const float* da_scaled) const {
  RotatedMemory* memory = allocate_rotated(scratch, *this, true);
  float* dX = tape->gradient(X.values);
  auto task = [&](int64_t g) {
    const int64_t h = head_of_group(g);
    for (int64_t t = tiling->group[size_t(g)]; t < tiling->group[size_t(g) + 1]; ++t) {
      const int64_t begin = tiling->begin[size_t(t)];
      for (int64_t b = 0; b < B; ++b) {
        if (T == 1 && !reads(b)) continue;
        rotate_tile(*this, t, b, memory[g], T > 1);
        const kernels::RowLists lists = memory[g].tile.lists();
        float* dvalue = memory[g].dvalue;
        if (T > 1)
          kernels::dot_rows(lists, memory[g].columns, column_stride(), padded,
                            G + (b * heads + h) * T * padded, padded, false, dvalue);
        if (reads(b))
          kernels::dot_rows(lists, rho(b, begin), D, D, da_scaled + (b * T * heads + h) * D, heads * D, T > 1,
                            dvalue);
        kernels::rotate_lists_backward(space->rotary(), X.tile(t, b * T, T), begin % N, b * T, memory[g].tile,
                                       dvalue, dX);
      }
    }
  };
  parallel(tiling->groups(), task);
}

// ---- dense -----------------------------------------------------------------------------------------------

void Recall::forward_dense() {
  Arena& scratch = space->scratch();
  float* R = scratch.floats(B * T * n);
  float* read = scratch.floats(B * heads * T * D);
  const float* values = X.values.value();
  auto rotate = [&](int64_t r) {
    kernels::rotate_neurons(space->rotary(), r, 1, heads, false, false, values, R);
  };
  parallel(B * T, rotate);
  constexpr int64_t kScoreRows = 64;  // S is made in blocks of rows, as far as the diagonal
  const int64_t blocks = T > 1 ? (T + kScoreRows - 1) / kScoreRows : 0;
  auto score = [&](int64_t i) {
    const int64_t b = i / blocks / heads, h = i / blocks % heads, first = i % blocks * kScoreRows;
    const int64_t count = std::min(kScoreRows, T - first);
    const float* R_h = R + b * T * n + h * N;
    kernels::matmul(Order::kPlain, Order::kTransposed, count, first + count, N, R_h + first * n, n, R_h, n,
                    false, scores(b, h) + first * padded, padded);
  };
  parallel(B * heads * blocks, score);
  auto task = [&](int64_t i) {
    const int64_t b = i / heads, h = i % heads;
    if (T > 1) {
      mask_scores(b, h);
      kernels::matmul(Order::kPlain, Order::kPlain, T, D, T, scores(b, h), padded, x_of(b), D, false,
                      a_of(b, h), heads * D);
    } else {
      std::memset(a_of(b, h), 0, size_t(D) * sizeof(float));
    }
    if (!reads(b)) return;
    float* past = read + i * T * D;
    kernels::matmul(Order::kPlain, Order::kPlain, T, D, N, R + b * T * n + h * N, n, rho(b, h * N), D, false,
                    past, D);
    read_past(b, h, past);
  };
  parallel(B * heads, task);
}

void Recall::backward_dense(Arena& scratch, const float* G, const float* da_scaled) const {
  float *R = scratch.floats(B * T * n), *dR = scratch.floats(B * T * n);
  float* dX = tape->gradient(X.values);
  auto rotate = [&](int64_t r) {
    kernels::rotate_neurons(space->rotary(), r, 1, heads, false, false, X.values.value(), R);
  };
  parallel(B * T, rotate);
  auto task = [&](int64_t i) {
    const int64_t b = i / heads, h = i % heads, at = b * T * n + h * N;
    if (T > 1)
      kernels::matmul(Order::kPlain, Order::kPlain, T, N, T, G + i * T * padded, padded, R + at, n, false,
                      dR + at, n);
    else
      std::memset(dR + at, 0, size_t(N) * sizeof(float));
    if (reads(b))
      kernels::matmul(Order::kPlain, Order::kTransposed, T, N, D, da_scaled + (b * T * heads + h) * D,
                      heads * D, rho(b, h * N), D, true, dR + at, n);
  };
  parallel(B * heads, task);
  auto turn_back = [&](int64_t r) {
    kernels::rotate_neurons(space->rotary(), r, 1, heads, true, true, dR, dX);
  };
  parallel(B * T, turn_back);
}

// ---- both ------------------------------------------------------------------------------------------------

// ρ ← rescale·ρ + Σ_t R_t written_tᵀ. Lists that record nothing have done this while they read.
void Recall::write() const {
  BROOD_ASSERT(chunk_number == space->chunk_number());
  Arena& scratch = space->scratch();
  if (!X.dense) {
    RotatedMemory* memory = allocate_rotated(scratch, *this, false);
    auto task = [&](int64_t g) {
      for (int64_t t = tiling->group[size_t(g)]; t < tiling->group[size_t(g) + 1]; ++t) {
        for (int64_t b = 0; b < B; ++b) {
          const int64_t begin = tiling->begin[size_t(t)];
          rotate_tile(*this, t, b, memory[g], false);
          rescale_rows(b, begin, tiling->width(t));
          kernels::scatter_rows(memory[g].tile.lists(), memory[g].tile.value, plans[b].written, D, D,
                                rho(b, begin), D);
        }
      }
    };
    parallel(tiling->groups(), task);
    return;
  }
  float* R = scratch.floats(B * T * n);
  auto rotate = [&](int64_t r) {
    kernels::rotate_neurons(space->rotary(), r, 1, heads, false, false, X.values.value(), R);
  };
  parallel(B * T, rotate);
  auto task = [&](int64_t i) {
    const int64_t b = i / heads, h = i % heads;
    if (!plans[b].empty) rescale_rows(b, h * N, N);
    kernels::matmul(Order::kTransposed, Order::kPlain, N, D, T, R + b * T * n + h * N, n, plans[b].written, D,
                    !plans[b].empty, rho(b, h * N), D);
  };
  parallel(B * heads, task);
}

// G = dS + dSᵀ, or dS [B, heads, T, padded], zero on the diagonal and in the padding.
void Recall::score_gradients(float* G) const {
  const float* da = tape->gradient(a);
  auto task = [&](int64_t i) {
    const int64_t b = i / heads, h = i % heads;
    float* g = G + i * T * padded;
    kernels::matmul(Order::kPlain, Order::kTransposed, T, T, D, da + (b * T * heads + h) * D, heads * D,
                    x_of(b), D, false, g, padded);
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t s = 0; s < t; ++s) {
        g[t * padded + s] *= powers[t - s];
        g[s * padded + t] = detached ? 0.0f : g[t * padded + s];
      }
      std::memset(g + t * padded + T, 0, size_t(padded - T) * sizeof(float));
      g[t * padded + t] = 0;
    }
  };
  parallel(B * heads, task);
}

void Recall::backward() const {
  BROOD_ASSERT(chunk_number == space->chunk_number());
  Arena& scratch = space->scratch();
  const float* da = tape->gradient(a);
  float* G = nullptr;
  if (T > 1) {
    G = scratch.floats(B * heads * T * padded);
    score_gradients(G);
    if (x.needs_gradient() && !detached) {
      float* dx = tape->gradient(x);
      auto task = [&](int64_t b) {
        for (int64_t h = 0; h < heads; ++h)
          kernels::matmul(Order::kTransposed, Order::kPlain, T, D, T, scores(b, h), padded,
                          da + (b * T * heads + h) * D, heads * D, true, dx + b * T * D, D);
      };
      parallel(B, task);
    }
  }
  float* da_scaled = scratch.floats(B * T * heads * D);
  for (int64_t r = 0; r < B * T; ++r) {
    const float scale = plans[r / T].read_scale * powers[r % T];
    for (int64_t c = 0; c < heads * D; ++c) da_scaled[r * heads * D + c] = scale * da[r * heads * D + c];
  }
  if (X.dense)
    backward_dense(scratch, G, da_scaled);
  else
    backward_lists(scratch, G, da_scaled);
}

}  // namespace

Var recall(Tape& tape, NeuronSpace& space, const Neurons& X, Var x, const Chunk& chunk, double fade,
           bool detached, SynapseState& state) {
  BROOD_ASSERT(x.contiguous() && x.rows() == chunk.rows() && X.rows == chunk.rows() && 0 < fade && fade <= 1);
  const int64_t B = chunk.B, T = chunk.T, D = space.d_model, heads = space.heads;
  Recall op{.tape = &tape,
            .space = &space,
            .tiling = &space.tiling(chunk.rows()),
            .X = X,
            .x = x,
            .a = tape.make(B * T * heads, D, true),
            .B = B,
            .T = T,
            .padded = (T + kRowAlign - 1) / kRowAlign * kRowAlign,
            .heads = heads,
            .N = space.per_head,
            .D = D,
            .n = space.neurons(),
            .fade = fade,
            .detached = detached,
            .keep = chunk.keep_state,
            .synapses = state.synapses,
            .S = nullptr,
            .powers = nullptr,
            .plans = nullptr,
            .chunk_number = space.chunk_number()};
  op.plan(chunk, state.faded);
  op.forward();
  tape.record(op.a, [op] { op.backward(); });
  if (op.keep) {
    if (tape.recording())
      tape.at_end([op] { op.write(); });
    else if (X.dense)
      op.write();
  }
  return op.a;
}

}  // namespace brood
