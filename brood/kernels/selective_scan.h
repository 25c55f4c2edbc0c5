// The selective scan of Mamba-1 (Gu and Dao 2023, S6), with the gate fused:
//
//   Δ = softplus(delta + delta_bias)          softplus(x) = x above 20
//   h_t = exp(Δ_t A)∘h_{t−1} + (Δ_t x_t) B_t    per channel c and state n
//   y_t = (Σ_n h_t C_t + D x_t) ∘ silu(z_t)     (without z: no gate)
//
// Layouts: rows are b·T + t. x, delta, y: [B·T, C] contiguous. z: row stride z_stride. B_t, C_t: N numbers a
// row, row stride bc_stride. States are [B][N][C]: channels run along the vector lanes, so nothing is ever
// summed across lanes except dB and dC. A is −exp(A_log) given transposed as [N][C]. Work is split over
// blocks of channels and streams; sums over channels are made in a fixed order.
#pragma once

#include <cstdint>

namespace brood::kernels {

struct SelectiveScan {
  int64_t B, T, C, N;
  const float* x;
  const float* delta;
  const float* delta_bias;  // [C]
  const float* A;           // [N][C], negative
  const float* input;       // B_t, row stride bc_stride
  const float* output;      // C_t, row stride bc_stride
  int64_t bc_stride;
  const float* D;  // [C]
  const float* z;  // or null
  int64_t z_stride;
  const float* h_in;  // [B][N][C]
};

// A = −exp(a_log) with channels innermost: a_log [C][N] as checkpoints hold it → A [N][C].
void decay_matrix(int64_t C, int64_t N, const float* a_log, float* A);

constexpr int64_t kScanCheckpoint = 16;  // steps between stored states; h is recomputed inside
constexpr int64_t kScanMaxStates = 256;  // the most states a channel may have, N

// floats of checkpoints: B · ceil(T/kScanCheckpoint) · N · C
int64_t selective_scan_checkpoint_size(const SelectiveScan& scan);
// h_out may equal h_in when checkpoints is null. checkpoints may be null (not recording).
void selective_scan_forward(const SelectiveScan& scan, float* y, float* h_out, float* checkpoints);

struct SelectiveScanGradients {  // each is added to; any may be null
  float* x;                      // [B·T, C]
  float* delta;                  // [B·T, C]
  float* delta_bias;             // [C]
  float* A;                      // [N][C]
  float* input;                  // row stride bc_stride
  float* output;                 // row stride bc_stride
  int64_t bc_stride;
  float* D;  // [C]
  float* z;  // row stride z_stride
  int64_t z_stride;
  float* h_in;  // [B][N][C]
};
int64_t selective_scan_backward_scratch(const SelectiveScan& scan);  // floats
// dh_out: gradient of the final state, or null. checkpoints: from forward.
void selective_scan_backward(const SelectiveScan& scan, const float* checkpoints, const float* dy,
                             const float* dh_out, const SelectiveScanGradients& gradients, float* scratch);

}  // namespace brood::kernels
