// The closed-form readout y = W z: linear least squares with a small weight decay, ridge regression, learnt one
// example at a time. No step size, no gradient, no order: with forgetting 1 the weights are at every moment
// those of ridge regression on all examples so far, so nothing is ever forgotten.
//
//   W = argmin Σ_t λ^(n−t) |y_t − W z_t|² + κ |W|²
//
// Two forms of the same thing. Covariance (recursive least squares, Plackett 1950; Haykin, Adaptive Filter
// Theory, §10.3; O(p²) an example):
//
//   g = P z,  W += (y − W z) gᵀ / (λ + zᵀg),  P = (P − g gᵀ / (λ + zᵀg)) / λ,   P_0 = I/κ
//
// Information (statistics A = Σ z zᵀ, b = Σ z yᵀ; O(p²) an example, O(p³) when the weights are wanted):
//
//   W = ((A + κI)⁻¹ b)ᵀ
//
// Statistics of several streams are added up, and give to the rounding what one learner of all streams would
// have: whatever the order, however the examples were divided.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "brood/base/archive.h"

namespace brood {

// Not thread-safe. Inputs must be finite and are best about 1 in size.
class RecursiveLeastSquares {
 public:
  // forgetting in (0, 1], ridge > 0.
  RecursiveLeastSquares(int64_t inputs, int64_t outputs, double forgetting, double ridge);

  void predict(std::span<const double> z, std::span<double> y) const;
  // A target that is NaN is not known: that output learns nothing from this example.
  void learn(std::span<const double> z, std::span<const double> y);

  // The inputs are from now on z'_i = scale_i z_i + shift_i (z'_0 = z_0 = 1), and the outputs output_scale times
  // what they were. What was learnt goes on in the new units, exactly but for rounding and the prior.
  void change_units(std::span<const double> scale, std::span<const double> shift, double output_scale);
  void forget_all();

  std::span<const double> weights() const { return weights_; }  // [outputs, inputs]
  int64_t inputs() const { return inputs_; }
  void archive(Archive& archive);

 private:
  void limit_doubt();

  int64_t inputs_, outputs_;
  double forgetting_, ridge_;
  std::vector<double> p_, weights_, g_;
};

// A, b and the number of examples. Not thread-safe.
class RidgeStatistics {
 public:
  RidgeStatistics(int64_t inputs, int64_t outputs);

  void add(std::span<const double> z, std::span<const double> y);
  // Of other examples, of the same shape. Throws Error when it has another one.
  void merge(const RidgeStatistics& other);
  // Takes back exactly what was merged, but for rounding.
  void withdraw(const RidgeStatistics& other);
  // W, [outputs, inputs]; ridge > 0. Throws Error when A + κI is not positive definite: then the statistics
  // are of no examples (a stranger's, perhaps).
  std::vector<double> solve(double ridge) const;
  int64_t examples() const { return examples_; }

 private:
  void require_same_shape(const RidgeStatistics& other, const char* doing) const;

  int64_t inputs_, outputs_, examples_ = 0;
  std::vector<double> a_, b_;  // [inputs, inputs], [outputs, inputs]
};

}  // namespace brood
