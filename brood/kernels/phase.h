// Rotary positions that the stream itself decides (Mamba-3, arXiv 2603.15569): each pair of a head turns by an
// angle of its own at every step, so that the state can count round and round.
//
//   φ_t = φ_{t−1} + ½ r_t Δ_t                  in turns: a rate r of 1 is π radians in a unit of time
//   y_2i   = z_2i cos φ_i − z_2i+1 sin φ_i
//   y_2i+1 = z_2i sin φ_i + z_2i+1 cos φ_i     with z = x + bias, for the first n pairs; the rest stay
//
// φ is kept in [−½, ½], where a float holds it to 3e-8 turns however long the stream. Rows are b·T + t. Work is
// split over streams or rows; results are the same to the bit for any number of threads and φ for any cut.
#pragma once

#include <cstdint>

#include "brood/kernels/rows.h"

namespace brood::kernels {

struct Phases {
  int64_t B, T, heads, n;
  ConstRows rate;   // r, [B·T, n], the same for all heads
  ConstRows delta;  // Δ, [B·T, heads]
};
// phase [B·T, heads·n]; in and out [B, heads·n], which may be the same memory.
void phases_forward(const Phases& phases, const float* in, float* phase, float* out);
// Adds to drate, ddelta and din; each may be null. dphase: gradient per turn; dout may be null. scratch:
// B·T·heads·n floats.
void phases_backward(const Phases& phases, const float* dphase, const float* dout, Rows drate, Rows ddelta,
                     float* din, float* scratch);

struct PhaseRotary {
  int64_t rows, heads, groups, N, n;  // 2n <= N; head h reads group h / (heads / groups)
  ConstRows x;                        // [rows, groups·N]
  const float* bias;                  // [heads·N]
  const float* phase;                 // [rows, heads·n]
};
void phase_rotary_forward(const PhaseRotary& rotary, float* y);  // [rows, heads·N]
// Adds to dx, dbias and dphase; dx.data may be null. y: from forward. scratch: rows·heads·N floats.
void phase_rotary_backward(const PhaseRotary& rotary, const float* y, const float* dy, Rows dx, float* dbias,
                           float* dphase, float* scratch);

}  // namespace brood::kernels
