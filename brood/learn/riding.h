// Riding: the optimiser rides in the backward pass. As soon as the last contribution to a weight's gradient
// is known the weight is updated, while it is in cache; the gradient of a matrix used once is never stored.
//
// Weights used several times in a step (shared over layers, tied embeddings) gather their gradient first and
// are updated at their last use, so the result is that of an exact step in all cases.
#pragma once

#include "brood/autograd/tape.h"
#include "brood/learn/optimiser.h"

namespace brood {

class RidingOptimiser : public GradientSink {
 public:
  explicit RidingOptimiser(const OptimiserSettings& settings);

  void begin_step(double learning_rate);  // before tape.backward

  void linear(Parameter& w, int64_t T, const float* dy, int64_t ldy, const float* x, int64_t ldx, float* dx,
              int64_t lddx, bool accumulate, Precision precision, Arena& scratch) override;
  void rows(Parameter& table, int64_t n, const int32_t* tokens, const float* dy) override;
  void finished(Parameter& w) override;
  void step_done(std::vector<Parameter*>& used) override;

  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  void fused(Parameter& w, int64_t T, const float* dy, const float* x, float* dx, bool accumulate,
             Arena& scratch);
  void blocked(Parameter& w, int64_t T, const float* dy, int64_t ldy, const float* x, int64_t ldx,
               Arena& scratch);
  void update(Parameter& w);

  OptimiserSettings settings_;
  double learning_rate_ = 0;
  int64_t steps_ = 0;
};

}  // namespace brood
