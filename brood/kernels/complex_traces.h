// Traces of complex modes (kernels/complex_scan.h): how the state moves with the recurrence's own numbers, brought
// forward with the stream, which is real-time recurrent learning (Williams and Zipser 1989; for diagonal recurrences
// Zucchet, Meier, Schug, Mujika and Sacramento 2023). h = A h + B u is an analytic function of A and of B, so
//
//   p_t = ∂h_t/∂A = A p_{t−1} + h_{t−1}          q_t = ∂h_t/∂B = A q_{t−1} + u_t
//
// are a complex number a mode each. Where g is the gradient of the state that some steps began with, backward over
// these steps alone lacks p̄ g of A and q̄ g of B, p and q being those of that state.
//
// Layout of traces: [B][2][N][2][C], p and q. Bit-equal for any number of threads and, as the states are, for any cut
// of a sequence into chunks.
#pragma once

#include "brood/kernels/complex_scan.h"

namespace brood::kernels {

// Over all steps of the scan, of which h_in must still hold the state before. out may equal in.
void complex_traces_forward(const ComplexScan& scan, const float* in, float* out);

// dA += Σ_b p̄ g and dB += Σ_b q̄ g; dh_in: g, [B][N][2][C]; dA, dB: [N][2][C].
void complex_traces_backward(const ComplexScan& scan, const float* traces, const float* dh_in, float* dA,
                             float* dB);

}  // namespace brood::kernels
