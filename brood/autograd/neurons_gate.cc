// gated(): y = (X ∘ ReLU(a W_y)) W_e and its backward. W_y and W_e are neuron-major, so a tile of neurons
// needs nothing of its neighbours but a place to add up y and the gradient of a.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "brood/autograd/kernel_rows.h"
#include "brood/autograd/neurons.h"
#include "brood/base/threads.h"
#include "brood/kernels/activation.h"

namespace brood {

using kernels::Order;

namespace {

// Everything forward and backward know. Plain data: it is captured by the tape.
struct Gate {
  Tape* tape;
  NeuronSpace* space;
  const NeuronTiling* tiling;
  Neurons X;
  Var a, y;
  Parameter *encoder_v, *decoder;
  NeuronWeights wy, we;
  kernels::Gating gating;
  float* Y;  // a W_y: dense [rows, n], rectified; lists: at the entries of X, raw
  int64_t rows, D, heads, n;

  const float* a_of(int64_t head) const { return a.value() + head * D; }
  int64_t head_of_group(int64_t g) const { return g / tiling->groups_per_head; }

  int64_t forward();
  void backward() const;

 private:
  // Dense forms are products of T: float or Bf16.
  template <class T>
  int64_t forward_dense();
  int64_t forward_lists();
  template <class T>
  void backward_dense(float* dWy, float* dWe, float* da) const;
  void backward_lists(float* dWy, float* dWe, float* da) const;
  // Dense work is cut into blocks of whole tiles of one head, of this many neurons at most.
  int64_t block_width() const;
  int64_t blocks() const { return heads * ((n / heads + block_width() - 1) / block_width()); }
  // Calls work(block, head, first neuron, width) for all of them, in parallel.
  template <class Work>
  void over_blocks(const Work& work) const;
};

int64_t Gate::block_width() const {
  constexpr int64_t kBlock = 1 << 17;  // X, Y, Z and their like of a block: 512 KB each
  const int64_t tile = tiling->widest;
  return std::min(n / heads, std::max<int64_t>(1, kBlock / (rows * tile)) * tile);
}

template <class Work>
void Gate::over_blocks(const Work& work) const {
  const int64_t N = n / heads, width = block_width(), per_head = (N + width - 1) / width;
  auto task = [&](int64_t i) {
    const int64_t h = i / per_head, begin = i % per_head * width;
    work(i, h, h * N + begin, std::min(width, N - begin));
  };
  parallel(blocks(), task);
}

int64_t Gate::forward() {
  if (!X.dense) return forward_lists();
  return wy.half() ? forward_dense<Bf16>() : forward_dense<float>();
}

// A dense activation that is made row by row and then multiplied: in place, or its bf16 copy.
template <class T>
struct Factor {
  float* made;
  T* multiplied;
  Factor(Arena& arena, int64_t size) : made(arena.floats(size)) {
    if constexpr (std::is_same_v<T, Bf16>)
      multiplied = arena.allocate_array<Bf16>(size);
    else
      multiplied = made;
  }
  void done(int64_t at, int64_t count) const {
    if constexpr (std::is_same_v<T, Bf16>) kernels::convert(count, made + at, multiplied + at);
  }
};

template <class T>
int64_t Gate::forward_dense() {
  Y = space->lasting(*tape).floats(rows * n);
  Arena& scratch = space->scratch();
  const Factor<T> Z(scratch, rows * n);
  int64_t* counts = scratch.allocate_array<int64_t>(blocks());
  const float* x = X.values.value();
  const T* a_factor = product_operand<T>(a.size(), a.value(), scratch);
  over_blocks([&](int64_t block, int64_t h, int64_t begin, int64_t width) {
    kernels::matmul(Order::kPlain, Order::kTransposed, rows, width, D, a_factor + h * D, heads * D,
                    wy.row<T>(begin), D, false, Y + begin, n);
    counts[block] = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = r * n + begin;
      counts[block] += kernels::gate_forward(width, x + at, Y + at, Z.made + at);
      if (gating.dropout > 0)
        kernels::drop_out(width, gating.seed, uint64_t(at), gating.dropout, Z.made + at);
      Z.done(at, width);
    }
  });
  kernels::matmul(Order::kPlain, Order::kPlain, rows, D, n, Z.multiplied, n, we.row<T>(0), D, false,
                  y.value(), D);
  return std::accumulate(counts, counts + blocks(), int64_t(0));
}

// Memory for the gated entries of a group's tiles, one tile at a time.
struct GatedMemory {
  kernels::GatedTile tile;
  float* dvalue;
  GatedMemory(Arena& arena, int64_t rows, int64_t entries)
      : tile{rows,
             0,
             0,
             arena.allocate_array<uint32_t>(rows + 1),
             arena.allocate_array<uint32_t>(entries),
             arena.floats(entries),
             arena.allocate_array<uint32_t>(entries)},
        dvalue(arena.floats(entries)) {}
};

GatedMemory* allocate_gated(Arena& arena, int64_t groups, int64_t rows, int64_t widest) {
  auto* memory = arena.allocate_array<GatedMemory>(groups);
  for (int64_t g = 0; g < groups; ++g)
    new (memory + g) GatedMemory(arena, rows, rows * widest + kernels::kListSlack);
  return memory;
}

int64_t Gate::forward_lists() {
  Y = space->lasting(*tape).floats(X.values.size() + kernels::kListSlack);
  Arena& scratch = space->scratch();
  const int64_t groups = tiling->groups();
  float* partial = scratch.floats(groups * rows * D);
  int64_t* counts = scratch.allocate_array<int64_t>(groups);
  GatedMemory* memory = allocate_gated(scratch, groups, rows, tiling->widest);
  auto task = [&](int64_t g) {
    float* sum = partial + g * rows * D;
    std::memset(sum, 0, size_t(rows * D) * sizeof(float));
    counts[g] = 0;
    kernels::GatedTile& tile = memory[g].tile;
    for (int64_t t = tiling->group[size_t(g)]; t < tiling->group[size_t(g) + 1]; ++t) {
      const kernels::RowLists lists = X.tile(t);
      wy.dot(lists, a_of(head_of_group(g)), heads * D, Y);
      counts[g] += kernels::gate_lists(lists, X.values.value(), Y, gating, tile);
      we.accumulate(tile.lists(), tile.value, sum);
    }
  };
  parallel(groups, task);
  sum_groups(groups, rows * D, partial, false, y.value());
  return std::accumulate(counts, counts + groups, int64_t(0));
}

void Gate::backward() const {
  float* dWe = tape->sink().gradient(*decoder);
  float* dWy = tape->sink().gradient(*encoder_v);
  float* da = gradient_or_null(*tape, a);
  if (!X.dense)
    backward_lists(dWy, dWe, da);
  else if (wy.half())
    backward_dense<Bf16>(dWy, dWe, da);
  else
    backward_dense<float>(dWy, dWe, da);
  tape->sink().finished(*decoder);
  tape->sink().finished(*encoder_v);
}

template <class T>
void Gate::backward_dense(float* dWy, float* dWe, float* da) const {
  Arena& scratch = space->scratch();
  const Factor<T> dZ(scratch, rows * n), Z(scratch, rows * n);  // dZ becomes dY
  const float* x = X.values.value();
  const T* dy = product_operand<T>(y.size(), tape->gradient(y), scratch);
  const T* a_factor = product_operand<T>(a.size(), a.value(), scratch);
  float* dX = tape->gradient(X.values);
  over_blocks([&](int64_t, int64_t h, int64_t begin, int64_t width) {
    kernels::matmul(Order::kPlain, Order::kTransposed, rows, width, D, dy, D, we.row<T>(begin), D, false,
                    dZ.made + begin, n);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = r * n + begin;
      kernels::mul(width, x + at, Y + at, Z.made + at);
      if (gating.dropout > 0) {
        kernels::drop_out(width, gating.seed, uint64_t(at), gating.dropout, Z.made + at);
        kernels::drop_out(width, gating.seed, uint64_t(at), gating.dropout, dZ.made + at);
      }
      kernels::gate_backward(width, x + at, Y + at, dZ.made + at, dX + at);
      Z.done(at, width);
      dZ.done(at, width);
    }
    kernels::matmul(Order::kTransposed, Order::kPlain, width, D, rows, Z.multiplied + begin, n, dy, D, true,
                    dWe + begin * D, D);
    kernels::matmul(Order::kTransposed, Order::kPlain, width, D, rows, dZ.multiplied + begin, n,
                    a_factor + h * D, heads * D, true, dWy + begin * D, D);
  });
  if (!da) return;
  const int64_t N = n / heads;
  for (int64_t h = 0; h < heads; ++h)
    kernels::matmul(Order::kPlain, Order::kPlain, rows, D, N, dZ.multiplied + h * N, n, wy.row<T>(h * N), D,
                    true, da + h * D, heads * D);
}

void Gate::backward_lists(float* dWy, float* dWe, float* da) const {
  Arena& scratch = space->scratch();
  const int64_t groups = tiling->groups(), per_head = tiling->groups_per_head;
  float* partial = scratch.floats(groups * rows * D);
  GatedMemory* memory = allocate_gated(scratch, groups, rows, tiling->widest);
  const float *x = X.values.value(), *dy = tape->gradient(y);
  float* dX = tape->gradient(X.values);
  auto task = [&](int64_t g) {
    float* sum = partial + g * rows * D;
    std::memset(sum, 0, size_t(rows * D) * sizeof(float));
    kernels::GatedTile& tile = memory[g].tile;
    float* dvalue = memory[g].dvalue;
    const int64_t h = head_of_group(g);
    for (int64_t t = tiling->group[size_t(g)]; t < tiling->group[size_t(g) + 1]; ++t) {
      kernels::gate_lists(X.tile(t), x, Y, gating, tile);
      const kernels::RowLists lists = tile.lists();
      we.dot(lists, dy, D, dvalue);
      kernels::scatter_rows(lists, tile.value, dy, D, D, dWe, D);
      kernels::gate_lists_backward(tile, x, Y, gating, dvalue, dX);  // dvalue is dy now
      kernels::scatter_rows(lists, dvalue, a_of(h), heads * D, D, dWy, D);
      if (da) wy.accumulate(lists, dvalue, sum);
    }
  };
  parallel(groups, task);
  if (!da) return;
  auto add_up = [&](int64_t h) {
    for (int64_t g = h * per_head; g < (h + 1) * per_head; ++g)
      for (int64_t r = 0; r < rows; ++r)
        kernels::add_to(D, partial + (g * rows + r) * D, da + (r * heads + h) * D);
  };
  parallel(heads, add_up);
}

}  // namespace

Var gated(Tape& tape, NeuronSpace& space, const Neurons& X, Var a, Parameter& encoder_v, Parameter& decoder,
          float dropout, uint64_t seed, int64_t* gated_count) {
  const int64_t rows = X.rows, D = space.d_model, n = space.neurons();
  BROOD_ASSERT(a.contiguous() && a.rows() == rows * space.heads && a.cols() == D);
  Gate gate{.tape = &tape,
            .space = &space,
            .tiling = &space.tiling(rows),
            .X = X,
            .a = a,
            .y = tape.make(rows, D, true),
            .encoder_v = &encoder_v,
            .decoder = &decoder,
            .wy = NeuronWeights(encoder_v, tape.precision()),
            .we = NeuronWeights(decoder, tape.precision()),
            .gating = {.all = X.all, .dropout = dropout, .seed = seed, .neurons = n},
            .Y = nullptr,
            .rows = rows,
            .D = D,
            .heads = space.heads,
            .n = n};
  const int64_t count = gate.forward();
  if (gated_count) *gated_count = count;
  tape.use(encoder_v);
  tape.use(decoder);
  tape.record(gate.y, [gate] { gate.backward(); });
  return gate.y;
}

}  // namespace brood
