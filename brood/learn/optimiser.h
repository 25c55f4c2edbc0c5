// Optimiser: AdamW or SGD over all parameters of a model, as a batch step after backward, or riding in it
// (riding.h).
#pragma once

#include <cstdint>
#include <string>

#include "brood/autograd/parameter.h"
#include "brood/kernels/optimiser.h"

namespace brood {

struct OptimiserSettings {
  enum class Kind { kAdamW, kSgd } kind = Kind::kAdamW;
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 1.0;  // global gradient norm; 0: none (riding updates cannot clip by the global norm)
};

class Optimiser {
 public:
  Optimiser(ParameterStore& parameters, const OptimiserSettings& settings);

  // One update from the accumulated gradients at the given learning rate; returns the gradient norm before
  // clipping. Gradients are closed (zero for the next step). Bit-equal for any number of threads.
  double step(double learning_rate);

  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  ParameterStore& parameters_;
  OptimiserSettings settings_;
  int64_t steps_ = 0;
};

// A step of a parameter that keeps a balance (Parameter::balance_rate u) by the loads c − mean(c) in its
// gradient: b ← b − u·sign(c − mean(c)), without auxiliary loss (Wang et al., "Auxiliary-Loss-Free Load
// Balancing Strategy for Mixture-of-Experts", 2024). Then b loses its mean, which selects nothing and would
// grow without end. Closes the gradient.
void balance(Parameter& w);

// The numbers of one AdamW update of w at the given 1-based step, and the moments it needs.
kernels::AdamW adamw_step(const OptimiserSettings& settings, const Parameter& w, double learning_rate,
                          int64_t step);
void ensure_moments(Parameter& w);
// Before the first step: moments that an earlier run left would count as if they had begun at zero.
void forget_moments(ParameterStore& parameters);

// Learning rate at a step: linear warm-up, then cosine or linear decay to `floor` times the peak, or
// constant.
struct Schedule {
  enum class Shape { kConstant, kCosine, kLinear } shape = Shape::kCosine;
  double peak = 1e-3, floor = 0.1;
  int64_t warmup = 100, total = 1000;
  double at(int64_t step) const;
};

}  // namespace brood
