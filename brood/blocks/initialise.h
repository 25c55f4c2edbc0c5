// The initialisations that papers ask for.
#pragma once

#include <algorithm>
#include <cmath>

#include "brood/autograd/parameter.h"
#include "brood/base/random.h"

namespace brood {

// U(−bound, bound) with bound = scale/sqrt(fan_in): what kaiming_uniform(a = √5) gives, torch's default for
// linear maps.
inline void initialise_uniform(Parameter& p, int64_t fan_in, Random& random, double scale = 1.0) {
  const float bound = float(scale / std::sqrt(double(fan_in)));
  random.fill_uniform(p.value.f32(), p.size(), -bound, bound);
}

inline void initialise_normal(Parameter& p, Random& random, double stddev) {
  random.fill_normal(p.value.f32(), p.size(), float(stddev));
}

// N(0, scale/fan_in), drawn again beyond two standard deviations. Switch (Fedus et al. 2021, table 3) begins
// with a scale of 0.1 instead of 1, which is steadier with experts.
inline void initialise_truncated(Parameter& p, int64_t fan_in, Random& random, double scale) {
  const double stddev = std::sqrt(scale / double(fan_in));
  for (int64_t i = 0; i < p.size(); ++i) {
    double x = random.normal();
    while (std::abs(x) > 2) x = random.normal();
    p.value.f32()[i] = float(stddev * x);
  }
}

// Of maps that end in the stream, two a layer: the stream keeps its scale however deep the stack (GPT-2).
inline double residual_stddev(int64_t n_layer) { return 0.02 / std::sqrt(2.0 * double(n_layer)); }

// Mamba's step sizes at the start are log-uniform in [1e-3, 1e-1]: the bias under a softplus that gives one.
inline float step_size_bias(Random& random) {
  const double dt = std::max(1e-4, std::exp(random.uniform(std::log(1e-3), std::log(1e-1))));
  return float(dt + std::log(-std::expm1(-dt)));
}

inline void initialise_constant(Parameter& p, float value) {
  for (int64_t i = 0; i < p.size(); ++i) p.value.f32()[i] = value;
}

}  // namespace brood
