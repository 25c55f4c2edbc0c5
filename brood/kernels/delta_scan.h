// The recurrence whose transition is diagonal plus rank one: the delta rule. Per stream and head, with a
// state S of N keys by P values,
//
//   S_t = diag(w_t) S_{t−1} + b_t (S_{t−1}ᵀ a_t)ᵀ + k_t v_tᵀ        y_t = S_tᵀ q_t
//
// that is, S_t[n][p] = w_t[n] S_{t−1}[n][p] + b_t[n] sa_t[p] + k_t[n] v_t[p] with sa_t[p] = Σ_n S_{t−1}[n][p]
// a_t[n], and y_t[p] = Σ_n S_t[n][p] q_t[n].
//
//   RWKV-7 (Peng and others 2025):            w the decay, a = −κ, b = κ∘(in-context rate), κ of unit length
//   DeltaNet (Yang and others 2024):          w = 1, a = −β k, b = k, v ← β v
//   Gated DeltaNet (Yang and others 2024):    w = α for all keys (α = exp(g)), a = −α β k, b = k, v ← β v
//
// Layouts: rows are b·T + t. q, k, a, b: [B·T, H·N]; w: the same, or one number a head, [B·T, H]; v, y:
// [B·T, H·P]; each with a row stride of its own. States are [B][H][N][P]: values run along the vector lanes.
//
// Work is split over streams and heads; sums have a fixed order. The values of forward are the same to the
// bit for any number of threads and for any cut of a sequence into chunks, steps of one included. Gradients
// are the same to the bit for any number of threads; of cuts at multiples of kDeltaCheckpoint, too (other
// cuts add up the same terms in another order). Nothing is ever divided by w: it may be 0 or negative.
#pragma once

#include <cstdint>

#include "brood/kernels/rows.h"

namespace brood::kernels {

struct DeltaScan {
  int64_t B, T, H, N, P;
  ConstRows q, k, v, w, a, b;
  bool w_per_head;    // w holds one number a head, for all its keys
  const float* s_in;  // [B][H][N][P]
};

constexpr int64_t kDeltaCheckpoint = 16;  // steps between stored states; S is recomputed inside

// floats that forward keeps for backward: the states before steps 16, 32, … and every sa
int64_t delta_scan_kept_size(const DeltaScan& scan);

// kept: null when no backward will follow. s_out may equal s_in when kept is null.
void delta_scan_forward(const DeltaScan& scan, Rows y, float* s_out, float* kept);

struct DeltaScanGradients {  // each is added to; any may be null
  Rows q, k, v, w, a, b;     // shapes as the inputs; the same memory may stand in several places
  float* s_in;               // [B][H][N][P]
};
// s_in must still hold what forward read. kept: from forward. ds_out: the gradient of the final state, or
// null.
void delta_scan_backward(const DeltaScan& scan, const float* kept, ConstRows dy, const float* ds_out,
                         const DeltaScanGradients& gradients);

}  // namespace brood::kernels
