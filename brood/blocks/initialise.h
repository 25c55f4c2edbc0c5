// The initialisations that papers ask for.
#pragma once

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

// Of maps that end in the stream, two a layer: the stream keeps its scale however deep the stack (GPT-2).
inline double residual_stddev(int64_t n_layer) { return 0.02 / std::sqrt(2.0 * double(n_layer)); }

inline void initialise_constant(Parameter& p, float value) {
  for (int64_t i = 0; i < p.size(); ++i) p.value.f32()[i] = value;
}

}  // namespace brood
