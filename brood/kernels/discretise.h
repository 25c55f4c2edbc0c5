// From a continuous diagonal state space to steps of a stream (S4D: Gu, Gupta, Goel and Ré 2022, §2.2).
// Per channel c and mode n, with a = −e^{log_real} + i·imag, Δ = e^{log_dt} and the input matrix B = 1:
//
//   zero-order hold   A = e^{Δa},                    B = (A − 1)/a
//   bilinear          A = (1 + Δa/2)/(1 − Δa/2),     B = Δ/(1 − Δa/2)
//
// Either keeps |A| below 1. log_real and imag are [N][C], channels innermost; A and B are [N][2][C], of each
// mode a row of real parts and one of imaginary parts, as kernels/complex_scan.h wants them.
#pragma once

#include <cstdint>

namespace brood::kernels {

enum class Discretisation : uint8_t { kZeroOrderHold, kBilinear };

struct ContinuousModes {
  int64_t C, N;
  const float* log_dt;           // [C]
  const float *log_real, *imag;  // [N][C]; |Δ·imag| below 8000, beyond which angles lose their digits
};

void discretise(const ContinuousModes& modes, Discretisation method, float* A, float* B);

struct ContinuousGradients {  // each is added to; shapes as in ContinuousModes
  float *log_dt, *log_real, *imag;
};
// A, B: what discretise gave; dA, dB: ∂L/∂Re and ∂L/∂Im, in the same places.
void discretise_backward(const ContinuousModes& modes, Discretisation method, const float* A, const float* B,
                         const float* dA, const float* dB, const ContinuousGradients& gradients);

}  // namespace brood::kernels
