// The scan of complex modes that do not change with time: S4D (Gu, Gupta, Goel and Ré 2022), after its
// discretisation. Per channel c and mode n, with complex A, B and C,
//
//   h_t = A h_{t−1} + B u_t          y_t = 2 Re(Σ_n C h_t) + D u_t
//
// the 2 standing for the conjugates, which are not kept.
//
// Layouts: rows are b·T + t. u, y: [B·T, C] with row strides. A complex array is [N][2][C]: of each mode a
// row of real parts and a row of imaginary ones, channels along the vector lanes; states are [B][N][2][C].
// The gradient of a complex number is ∂L/∂Re and ∂L/∂Im, in the same places.
//
// Work is split over channels and, forward, over streams; sums have a fixed order. The values of forward are
// the same to the bit for any number of threads and for any cut of a sequence into chunks, steps of one
// included; gradients for any number of threads (a cut adds up the same terms in another order).
#pragma once

#include <cstdint>

#include "brood/kernels/rows.h"

namespace brood::kernels {

struct ComplexScan {
  int64_t B, T, C, N;
  ConstRows u;
  const float* A;       // [N][2][C]; the discrete one, of absolute value at most 1
  const float* input;   // B, [N][2][C]; the discrete one
  const float* output;  // C, [N][2][C]
  const float* D;       // [C]
  const float* h_in;    // [B][N][2][C]
};

constexpr int64_t kComplexCheckpoint = 16;  // steps between stored states; h is recomputed inside

// floats that forward keeps for backward: the states before steps 16, 32, …
int64_t complex_scan_kept_size(const ComplexScan& scan);

// kept: null when no backward will follow. h_out may equal h_in when kept is null.
void complex_scan_forward(const ComplexScan& scan, Rows y, float* h_out, float* kept);

struct ComplexScanGradients {  // each is added to; any may be null
  Rows u;
  float* A;
  float* input;
  float* output;
  float* D;
  float* h_in;
};
// h_in must still hold what forward read. kept: from forward. dh_out: the gradient of the final state, or
// null.
void complex_scan_backward(const ComplexScan& scan, const float* kept, ConstRows dy, const float* dh_out,
                           const ComplexScanGradients& gradients);

}  // namespace brood::kernels
