// recall() by the lists of the neurons awake. neurons_recall.h has the equations.
#include <cstring>

#include "brood/autograd/neurons_recall.h"
#include "brood/base/threads.h"
#include "brood/kernels/activation.h"

namespace brood {

using kernels::Order;

namespace {

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

}  // namespace

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

// ρ ← rescale·ρ + Σ_t R_t written_tᵀ. What records nothing has done this while it read.
void Recall::write_lists() const {
  Arena& scratch = space->scratch();
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
}

}  // namespace brood
