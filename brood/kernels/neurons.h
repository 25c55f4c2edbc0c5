// Layers of rectified neurons: the elementwise passes, and the lists of those awake.
#pragma once

#include <cstdint>

#include "brood/kernels/neuron_rotary.h"
#include "brood/kernels/neuron_rows.h"

namespace brood::kernels {

// ---- dense passes over n numbers -----------------------------------------------------------------------

// dx ← dx where x > 0, else 0.
void relu_mask(int64_t n, const float* x, float* dx);
// y ← ReLU(y) in place, z = x∘y; returns how many z are above 0 (x >= 0).
int64_t gate_forward(int64_t n, const float* x, float* y, float* z);
// Given dz: dx += dz∘y, and dz ← dy = dz∘x where y > 0, else 0.
void gate_backward(int64_t n, const float* x, const float* y, float* dz, float* dx);

// Inverted dropout by a hash of (seed, place): 0 or 1/(1−rate). Dense and sparse paths ask for the same
// places.
float dropout_factor(uint64_t seed, uint64_t place, float rate);
// x[i] *= factor of place first + i.
void drop_out(int64_t n, uint64_t seed, uint64_t first, float rate, float* x);

// ---- lists -----------------------------------------------------------------------------------------------

// One step of several tiles that follow each other: tile t holds the neurons [begin[t], begin[t+1]), and x
// begins at neuron begin[0].
//   relu_count   x ← ReLU(x − threshold) in place; count[t·stride] receives how many of a tile are above 0
//   pack_awake   those above 0 and their indices become the tile's list, from entry offset[t·stride] on. Up
//                to offset[t·stride + steps] entries are those of this and of later steps, and may be
//                overwritten; none beyond are
void relu_count(int64_t tiles, const int64_t* begin, float threshold, float* x, uint32_t* count,
                int64_t stride);
void pack_awake(int64_t tiles, const int64_t* begin, const float* x, const uint32_t* offset, int64_t stride,
                int64_t steps, float* value, uint32_t* index);

// Arrays of list entries are read and written in whole vectors: they have room for this many more.
constexpr int64_t kListSlack = 128;

// A tile's awake neurons after rotation: both members of every pair of which one is awake. Indices count from
// the tile's first neuron. Capacity: two for each entry and no more than a step has neurons, and kListSlack.
struct RotatedTile {
  int64_t steps, width;
  uint32_t* offset;  // [steps + 1]
  uint32_t* index;
  float* value;
  RowLists lists() const { return {steps, offset, index, 0, width, false}; }
};

// lists: a tile that begins at neuron `in_head` of its head, a multiple of 64 (of 32 for tiles of 32 and
// fewer); its steps are rows first + r of the chunk. columns, when not null, receives the tile turned on its
// side, neuron-major: columns[j·columns_stride + r] of the awake pairs; the caller has cleared it.
void rotate_lists(const NeuronRotary& rotary, const RowLists& lists, const float* value, int64_t in_head,
                  int64_t first, RotatedTile& rotated, float* columns, int64_t columns_stride);
// Gradients of the rotated values, as rotate_lists() left them, turned back and added to those of the awake
// neurons.
void rotate_lists_backward(const NeuronRotary& rotary, const RowLists& lists, int64_t in_head, int64_t first,
                           const RotatedTile& rotated, const float* drotated, float* dvalue);

// How awake neurons are gated: z = x∘ReLU(y), dropout on z.
struct Gating {
  bool all = false;   // keep entries with y <= 0, too (their product is 0): a dense product as a list
  float dropout = 0;  // rate
  uint64_t seed = 0;
  int64_t neurons = 0;  // of the layer: an entry's place for dropout is step·neurons + index
  uint64_t place(int64_t step) const { return uint64_t(step) * uint64_t(neurons); }
  float factor(int64_t step, uint32_t neuron) const {
    return dropout == 0 ? 1.0f : dropout_factor(seed, place(step) + neuron, dropout);
  }
};
// The gated ones among the awake: offset and index as in lists; value is z, place the entry's place among the
// awake. Capacity: that of the list. Returns how many have y > 0.
struct GatedTile {
  int64_t steps, base, width;
  uint32_t* offset;  // [steps + 1]
  uint32_t* index;
  float* value;
  uint32_t* place;
  RowLists lists() const { return {steps, offset, index, base, width, true}; }
};
int64_t gate_lists(const RowLists& lists, const float* x, const float* y, const Gating& gating,
                   GatedTile& gated);
// dvalue holds dz of the gated: dx += dz∘y at their places, dvalue ← dy.
void gate_lists_backward(const GatedTile& gated, const float* x, const float* y, const Gating& gating,
                         float* dvalue, float* dx);

}  // namespace brood::kernels
