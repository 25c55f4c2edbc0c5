// Activations and their slopes, slow and obvious, in double precision.
#pragma once

#include <cmath>

namespace brood::reference {

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
inline double silu(double x) { return x * sigmoid(x); }
inline double silu_slope(double x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }

}  // namespace brood::reference
