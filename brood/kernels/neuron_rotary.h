// Rotary positions on the axis of neurons (Dragon Hatchling, arXiv 2509.26507, and its reference listing).
//
// Within a head of N neurons the pair (2i, 2i+1) turns by f_i = θ^(−2i/N)/2π turns a step, θ = 2^16: from one
// radian a step down to a turn in some 4·10^5 steps. Phases are 64-bit fixed-point fractions of a turn, so
// position·f wraps exactly and a stream keeps its phase for ever (a product in f32 has lost a tenth of a
// radian after 10^6 steps). One table of sines and cosines serves all heads and layers of a step.
#pragma once

#include <cstdint>

namespace brood::kernels {

constexpr int kTilePairBits = 5;
constexpr int64_t kRotaryPairs = 1 << kTilePairBits;  // pairs a tile of the table holds

// turn[i] for i < N/2: f_i in units of 2^−64 turns. N is even.
void rotary_turns(int64_t N, uint64_t* turn);

// Floats of the table of `rows` positions.
inline int64_t rotary_table_size(int64_t rows, int64_t N) {
  return (N / 2 + kRotaryPairs - 1) / kRotaryPairs * rows * 2 * kRotaryPairs;
}
// Row r at positions[r]. Sines and cosines are within 1.2e-7. Layout: [tile of pairs][row][32 cosines, 32
// sines].
void rotary_table(int64_t rows, const int64_t* positions, int64_t N, const uint64_t* turn, float* table);

// A table in use. Row r of a chunk finds its angles in row r mod rows, so streams that stand at the same
// position share them.
struct NeuronRotary {
  const float* table;
  int64_t rows, N;

  const float* cosines(int64_t row, int64_t pair) const {
    return table + (pair / kRotaryPairs * rows + row % rows) * 2 * kRotaryPairs + pair % kRotaryPairs;
  }
  const float* sines(int64_t row, int64_t pair) const { return cosines(row, pair) + kRotaryPairs; }
};

// Dense: turns (back, when inverse) rows [first, first + rows) of x [.., heads·N] into y, or adds to y.
//   y_2i = x_2i cos − x_2i+1 sin,   y_2i+1 = x_2i+1 cos + x_2i sin
void rotate_neurons(const NeuronRotary& rotary, int64_t first, int64_t rows, int64_t heads, bool inverse,
                    bool add, const float* x, float* y);

}  // namespace brood::kernels
