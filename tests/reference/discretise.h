// Steps of a continuous diagonal state space, as its equations read, in double precision.
#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace brood::reference {

using Complex = std::complex<double>;

struct Step {
  Complex A, B;
};

// dt = log Δ; the mode −e^{log_real} + i·imag with the input 1.
inline Step discretise(double log_dt, double log_real, double imag, bool hold) {
  const double dt = std::exp(log_dt);
  const Complex a(-std::exp(log_real), imag);
  if (hold) return {std::exp(dt * a), (std::exp(dt * a) - 1.0) / a};
  return {(1.0 + dt / 2 * a) / (1.0 - dt / 2 * a), dt / (1.0 - dt / 2 * a)};
}

}  // namespace brood::reference
