// Traces of Mamba's selective scan (kernels/selective_scan.h): how its state moves with the recurrence's own parameters,
// brought forward with the stream, which is real-time recurrent learning (as kernels/complex_traces.h). With
// r_t = delta_t + bias, Δ_t = softplus(r_t), a_t = exp(Δ_t A), and delta_t = W l_t the low-rank map that it comes from,
//
//   h_t = a_t h_{t−1} + Δ_t x_t B_t                    per channel c and state n
//   ∂h_t/∂A       = a_t ∂h_{t−1}/∂A + Δ_t a_t h_{t−1}
//   ∂h_t/∂bias    = a_t ∂h_{t−1}/∂bias + s_t           s_t = softplus'(r_t) (A a_t h_{t−1} + x_t B_t)
//   ∂h_t/∂W[c, j] = a_t ∂h_{t−1}/∂W[c, j] + s_t l_t[j]
//
// Each parameter touches its own channel only. What moves x, B and l (projections that all channels share) has no traces.
//
// Layout of traces: [B][2 + rank][N][C]: of A, of bias, of W's columns. Bit-equal for any number of threads and for any
// cut of a sequence into chunks.
#pragma once

#include "brood/kernels/rows.h"
#include "brood/kernels/selective_scan.h"

namespace brood::kernels {

struct LowRank {
  int64_t rank = 0;  // 0: W has no traces
  ConstRows low{};   // l, [B·T, rank]
};

// Over all steps of the scan, of which h_in must still hold the state before. out may equal in.
void selective_traces_forward(const SelectiveScan& scan, const LowRank& w, const float* in, float* out);

// Adds what backward over some steps alone lacks; dh_in, [B][N][C], is the gradient of the state that they began with and
// traces are those of that state. dA [N][C], dbias [C], dw [C][rank].
void selective_traces_backward(const SelectiveScan& scan, const LowRank& w, const float* traces,
                               const float* dh_in, float* dA, float* dbias, float* dw);

}  // namespace brood::kernels
