#include "brood/autograd/neurons.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>

#include "brood/base/threads.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/matmul.h"
#include "brood/kernels/scratch.h"

namespace brood {

using kernels::Order;

namespace {

// 64 rows of 256 floats are 64 KB: two such tiles (weights and their gradients) beside 256 steps fit an L2 of
// 1 MB.
constexpr int64_t kTile = 64;
// Groups over all heads: enough for 16 threads, few enough that adding up their sums costs nothing.
constexpr int64_t kGroups = 16;
// Up to here a group is one tile: the rows of the weights are read once anyway, so the fewer lists the
// better.
constexpr int64_t kFewRows = 4;
// Pre-activations of a task while they are counted: 1 MB, half an L2.
constexpr int64_t kBlock = 1 << 18;
// Share awake up to which lists are the faster form of a chunk of many rows. Measured with AVX-512: a
// training step breaks even near 0.5 with rows of 256 floats, between 0.2 (16 rows) and 0.35 (1024 rows) with
// rows of 64, where the lists themselves cost as much as the sums.
double list_share(int64_t d_model) { return d_model >= 128 ? 0.45 : 0.25; }

NeuronTiling make_tiling(int64_t heads, int64_t per_head, bool coarse) {
  const int64_t tiles = (per_head + kTile - 1) / kTile;
  const int64_t groups = std::min(std::max<int64_t>(1, kGroups / heads), tiles);
  NeuronTiling tiling;
  tiling.groups_per_head = groups;
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t first = g * tiles / groups, last = (g + 1) * tiles / groups;
      tiling.group.push_back(int64_t(tiling.begin.size()));
      for (int64_t t = first; t < (coarse ? first + 1 : last); ++t)
        tiling.begin.push_back(h * per_head + t * kTile);
    }
  }
  tiling.group.push_back(int64_t(tiling.begin.size()));
  tiling.begin.push_back(heads * per_head);
  for (int64_t t = 0; t < tiling.tiles(); ++t) tiling.widest = std::max(tiling.widest, tiling.width(t));
  return tiling;
}

}  // namespace

NeuronSpace::NeuronSpace(int64_t heads_, std::span<const int64_t> parts, int64_t d_model_)
    : heads(heads_),
      per_head(std::accumulate(parts.begin(), parts.end(), int64_t(0))),
      d_model(d_model_),
      fine_(make_tiling(heads, per_head, false)),
      coarse_(make_tiling(heads, per_head, true)),
      turn_(size_t(per_head / 2)) {
  uint64_t* turn = turn_.data();
  for (const int64_t part : parts) {
    BROOD_ASSERT(part > 0 && part % 2 == 0);
    kernels::rotary_turns(part, turn);
    turn += part / 2;
  }
}

const NeuronTiling& NeuronSpace::tiling(int64_t rows) const { return rows <= kFewRows ? coarse_ : fine_; }

Arena& NeuronSpace::scratch() {
  scratch_.reset();
  return scratch_;
}

void NeuronSpace::begin_layer(Tape& tape) {
  if (!tape.recording()) layer_.reset();
}

void NeuronSpace::begin_layer(Tape& tape, const Chunk& chunk) {
  begin_layer(tape);
  const bool together = std::all_of(chunk.positions, chunk.positions + chunk.B,
                                    [&](int64_t p) { return p == chunk.positions[0]; });
  const int64_t streams = together ? 1 : chunk.B, rows = streams * chunk.T;
  const auto position = [&](int64_t r) { return chunk.positions[r / chunk.T] + r % chunk.T; };
  bool same = int64_t(positions_.size()) == rows;
  for (int64_t r = 0; same && r < rows; ++r) same = positions_[size_t(r)] == position(r);
  if (same) return;
  positions_.resize(size_t(rows));
  for (int64_t r = 0; r < rows; ++r) positions_[size_t(r)] = position(r);
  const size_t size = size_t(kernels::rotary_table_size(rows, per_head));
  if (table_.size() < size) table_.resize(size);
  kernels::rotary_table(rows, positions_.data(), per_head, turn_.data(), table_.data());
  rotary_ = {table_.data(), rows, per_head};
  ++chunk_number_;
}

void NeuronWeights::accumulate(const kernels::RowLists& lists, const float* value, float* out) const {
  if (half_)
    kernels::accumulate_rows(lists, value, half_, D_, D_, out, D_);
  else
    kernels::accumulate_rows(lists, value, full_, D_, D_, out, D_);
}

void NeuronWeights::dot(const kernels::RowLists& lists, const float* steps, int64_t steps_stride,
                        float* out) const {
  if (half_)
    kernels::dot_rows(lists, half_, D_, D_, steps, steps_stride, out);
  else
    kernels::dot_rows(lists, full_, D_, D_, steps, steps_stride, false, out);
}

void sum_groups(int64_t groups, int64_t n, const float* partial, bool accumulate, float* out) {
  constexpr int64_t kPiece = 1 << 14;
  auto piece = [&](int64_t i) {
    const int64_t begin = i * kPiece, count = std::min(kPiece, n - begin);
    int64_t g = 0;
    if (!accumulate) std::memcpy(out + begin, partial + g++ * n + begin, size_t(count) * sizeof(float));
    for (; g < groups; ++g) kernels::add_to(count, partial + g * n + begin, out + begin);
  };
  const int64_t pieces = (n + kPiece - 1) / kPiece;
  if (pieces == 1)
    piece(0);
  else
    parallel(pieces, piece);
}

namespace {

// Pre-activations, in runs of whole tiles: run i is [rows, its width], contiguous, at u + rows·(its first
// neuron).
struct Runs {
  const NeuronTiling& tiling;
  int64_t rows, length;  // tiles a run
  int64_t count() const { return (tiling.tiles() + length - 1) / length; }
  int64_t first(int64_t run) const { return run * length; }
  int64_t last(int64_t run) const { return std::min(tiling.tiles(), (run + 1) * length); }
  int64_t begin(int64_t run) const { return tiling.begin[size_t(first(run))]; }
  int64_t width(int64_t run) const { return tiling.begin[size_t(last(run))] - begin(run); }
};

int64_t count_awake(const NeuronTiling& tiling, int64_t rows, const uint32_t* offset) {
  int64_t awake = 0;
  for (int64_t t = 0; t < tiling.tiles(); ++t)
    for (int64_t r = 0; r < rows; ++r) awake += offset[t * (rows + 1) + r + 1];
  return awake;
}

// Puts to sleep all but the `most` strongest of each row and counts again.
void keep_strongest(const Runs& runs, int64_t n, int64_t most, float* u, uint32_t* offset) {
  const NeuronTiling& tiling = runs.tiling;
  auto row_task = [&](int64_t r) {
    thread_local kernels::Scratch scratch;
    float* awake = scratch.get<float>(n);
    int64_t count = 0;
    const auto over_row = [&](const auto& work) {
      for (int64_t i = 0; i < runs.count(); ++i) {
        float* part = u + runs.rows * runs.begin(i) + r * runs.width(i);
        for (int64_t j = 0; j < runs.width(i); ++j)
          if (part[j] > 0) work(part[j], runs.begin(i) + j);
      }
    };
    over_row([&](float& value, int64_t) { awake[count++] = value; });
    if (count <= most) return;
    std::nth_element(awake, awake + most - 1, awake + count, std::greater<>());
    const float least = awake[most - 1];
    int64_t equal = most - std::count_if(awake, awake + most, [&](float v) { return v > least; });
    for (int64_t t = 0; t < tiling.tiles(); ++t) offset[t * (runs.rows + 1) + r + 1] = 0;
    int64_t tile = 0;
    over_row([&](float& value, int64_t neuron) {
      if (value < least || (value == least && equal-- <= 0)) {
        value = 0;
        return;
      }
      while (tiling.begin[size_t(tile) + 1] <= neuron) ++tile;
      ++offset[tile * (runs.rows + 1) + r + 1];
    });
  };
  parallel(runs.rows, row_task);
}

// u = ReLU(x W_xᵀ − threshold), and how many are awake in each row of each tile. x [rows, D] is T as the
// weights are.
template <class T>
void rectify(const Runs& runs, int64_t D, const T* x, const NeuronWeights& encoder, float threshold, float* u,
             uint32_t* offset) {
  const NeuronTiling& tiling = runs.tiling;
  const int64_t rows = runs.rows;
  auto task = [&](int64_t i) {
    const int64_t begin = runs.begin(i), width = runs.width(i);
    float* run = u + rows * begin;
    kernels::matmul(Order::kPlain, Order::kTransposed, rows, width, D, x, D, encoder.row<T>(begin), D, false,
                    run, width);
    const int64_t first = runs.first(i);
    for (int64_t r = 0; r < rows; ++r)
      kernels::relu_count(runs.last(i) - first, &tiling.begin[size_t(first)], threshold, run + r * width,
                          offset + first * (rows + 1) + r + 1, rows + 1);
  };
  parallel(runs.count(), task);
}

// Makes lists of u. Counts become offsets; with `all` every neuron is listed.
void pack(Tape& tape, const Runs& runs, int64_t n, const float* u, Arena& memory, uint32_t* offset,
          Neurons& X) {
  const NeuronTiling& tiling = runs.tiling;
  const int64_t rows = X.rows, entries = X.all ? rows * n : X.awake;
  X.values = tape.leaf(memory.floats(entries + kernels::kListSlack), 1, entries, tape.recording());
  uint32_t* index = memory.allocate_array<uint32_t>(entries + kernels::kListSlack);
  X.offset = offset;
  X.index = index;
  uint32_t at = 0;
  for (int64_t t = 0; t < tiling.tiles(); ++t) {
    uint32_t* tile = offset + t * (rows + 1);
    tile[0] = at;
    for (int64_t r = 0; r < rows; ++r) tile[r + 1] = at += X.all ? uint32_t(tiling.width(t)) : tile[r + 1];
  }
  // Tiles [first, last) of run i.
  const auto pack_part = [&](int64_t i, int64_t first, int64_t last) {
    const int64_t begin = tiling.begin[size_t(first)];
    for (int64_t r = 0; r < rows; ++r) {
      const float* from = u + rows * runs.begin(i) + r * runs.width(i) + begin - runs.begin(i);
      const uint32_t* to = offset + first * (rows + 1) + r;
      if (!X.all) {
        kernels::pack_awake(last - first, &tiling.begin[size_t(first)], from, to, rows + 1, rows - r,
                            X.values.value(), index);
        continue;
      }
      for (int64_t t = first; t < last; ++t, to += rows + 1) {
        const int64_t width = tiling.width(t), own = tiling.begin[size_t(t)];
        std::memcpy(X.values.value() + *to, from + own - begin, size_t(width) * sizeof(float));
        std::iota(index + *to, index + *to + width, uint32_t(own));
      }
    }
  };
  auto pack_run = [&](int64_t i) { pack_part(i, runs.first(i), runs.last(i)); };
  auto pack_tile = [&](int64_t t) { pack_part(0, t, t + 1); };
  if (runs.count() > 1)
    parallel(runs.count(), pack_run);
  else
    parallel(tiling.tiles(), pack_tile);
}

// u as a matrix [rows, n].
void unroll(const Runs& runs, int64_t n, const float* u, float* values) {
  auto task = [&](int64_t i) {
    const int64_t begin = runs.begin(i), width = runs.width(i);
    for (int64_t r = 0; r < runs.rows; ++r)
      std::memcpy(values + r * n + begin, u + runs.rows * begin + r * width, size_t(width) * sizeof(float));
  };
  parallel(runs.count(), task);
}

void awaken_backward(Tape& tape, NeuronSpace& space, const Neurons& X, Var x, Parameter& encoder,
                     const NeuronWeights& weights) {
  const int64_t rows = X.rows, D = x.cols(), n = encoder.value.shape()[0];
  float* dX = tape.gradient(X.values);
  if (X.dense || X.all) {
    constexpr int64_t kPiece = 1 << 16;
    const int64_t size = X.values.size();
    auto mask = [&](int64_t i) {
      const int64_t begin = i * kPiece;
      kernels::relu_mask(std::min(kPiece, size - begin), X.values.value() + begin, dX + begin);
    };
    parallel((size + kPiece - 1) / kPiece, mask);
  }
  bool fresh = false;
  float* dx = x.needs_gradient() ? tape.gradient_slot(x, fresh) : nullptr;
  if (X.dense) {
    tape.sink().linear(encoder, rows, dX, n, x.value(), x.stride(), dx, x.stride(), !fresh, tape.precision(),
                       tape.arena());
    return;
  }
  const NeuronTiling& tiling = space.tiling(rows);
  float* dW = tape.sink().gradient(encoder);
  float* partial = dx ? space.scratch().floats(tiling.groups() * rows * D) : nullptr;
  auto task = [&](int64_t g) {
    float* sum = partial + g * rows * D;
    if (dx) std::memset(sum, 0, size_t(rows * D) * sizeof(float));
    for (int64_t t = tiling.group[size_t(g)]; t < tiling.group[size_t(g) + 1]; ++t) {
      const kernels::RowLists lists = X.tile(t);
      kernels::scatter_rows(lists, dX, x.value(), x.stride(), D, dW, D);
      if (dx) weights.accumulate(lists, dX, sum);
    }
  };
  parallel(tiling.groups(), task);
  if (dx) sum_groups(tiling.groups(), rows * D, partial, !fresh, dx);
  tape.sink().finished(encoder);
}

}  // namespace

Neurons awaken(Tape& tape, NeuronSpace& space, Var x, Parameter& encoder, float threshold, Sparsity sparsity,
               int64_t most) {
  const int64_t rows = x.rows(), n = space.neurons();
  BROOD_ASSERT(x.contiguous() && x.cols() == space.d_model && encoder.value.shape() == Shape({n, x.cols()}));
  if (rows * n + kernels::kListSlack > int64_t(UINT32_MAX))
    fail("neurons: {} steps of {} neurons at once are more than lists can count; read shorter chunks", rows,
         n);
  const NeuronTiling& tiling = space.tiling(rows);
  const bool few = rows <= kFewRows;
  // Few rows: one run, whose product is read at the speed of memory by all threads.
  const Runs runs{tiling, rows, few ? tiling.tiles() : std::max<int64_t>(1, kBlock / (rows * tiling.widest))};
  Arena& memory = space.lasting(tape);
  Arena& scratch = space.scratch();
  float* u = scratch.floats(rows * n);
  uint32_t* offset = memory.allocate_array<uint32_t>(tiling.tiles() * (rows + 1));
  const NeuronWeights weights(encoder, tape.precision());
  const auto rectified = [&]<class T>(const T* operand) {
    rectify(runs, x.cols(), operand, weights, threshold, u, offset);
  };

  Neurons X;
  X.rows = rows;
  X.tiling = &tiling;
  weights.half() ? rectified(product_operand<Bf16>(x.size(), x.value(), scratch))
                 : rectified(product_operand<float>(x.size(), x.value(), scratch));
  if (most > 0 && most < n) keep_strongest(runs, n, most, u, offset);
  X.awake = count_awake(tiling, rows, offset);
  X.all = few && sparsity == Sparsity::kNever;
  X.dense =
      !few && (sparsity == Sparsity::kNever ||
               (sparsity == Sparsity::kAuto && double(X.awake) > list_share(x.cols()) * double(rows * n)));
  if (!X.dense) {
    pack(tape, runs, n, u, memory, offset, X);
  } else {
    X.values = tape.leaf(memory.floats(rows * n), rows, n, tape.recording());
    unroll(runs, n, u, X.values.value());
  }
  tape.use(encoder);
  tape.record(X.values, [&tape, &space, X, x, &encoder, weights] {
    awaken_backward(tape, space, X, x, encoder, weights);
  });
  return X;
}

Neurons joined(Tape& tape, NeuronSpace& space, Var before, const Neurons& X) {
  const int64_t size = X.values.size();
  BROOD_ASSERT((X.dense || X.all) && before.size() == size);
  Neurons sum = X;
  float* values = space.lasting(tape).floats(size + kernels::kListSlack);
  sum.values = tape.leaf(values, X.values.rows(), X.values.cols(), tape.recording());
  constexpr int64_t kPiece = 1 << 14;
  const int64_t pieces = (size + kPiece - 1) / kPiece;
  int64_t* awake = space.scratch().allocate_array<int64_t>(pieces);
  auto piece = [&](int64_t i) {
    const int64_t begin = i * kPiece, end = std::min(size, begin + kPiece);
    std::memcpy(values + begin, before.value() + begin, size_t(end - begin) * sizeof(float));
    kernels::add_to(end - begin, X.values.value() + begin, values + begin);
    awake[i] = std::count_if(values + begin, values + end, [](float v) { return v > 0; });
  };
  if (pieces == 1)
    piece(0);
  else
    parallel(pieces, piece);
  sum.awake = std::accumulate(awake, awake + pieces, int64_t(0));
  tape.record(sum.values, [&tape, before, own = X.values, both = sum.values] {
    for (const Var v : {before, own})
      if (v.needs_gradient()) kernels::add_to(v.size(), tape.gradient(both), tape.gradient(v));
  });
  return sum;
}

}  // namespace brood
