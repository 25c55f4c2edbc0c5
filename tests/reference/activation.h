// Activations and their slopes, slow and obvious, in double precision.
#pragma once

#include <cmath>

namespace brood::reference {

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
inline double silu(double x) { return x * sigmoid(x); }
inline double silu_slope(double x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }

// The normal distribution and its density.
inline double normal_share(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
inline double normal_density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0)); }
inline double gelu(double x) { return x * normal_share(x); }
inline double gelu_slope(double x) { return normal_share(x) + x * normal_density(x); }

}  // namespace brood::reference
