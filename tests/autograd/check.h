// Gradients against finite differences, through the tape.
//
// The tape computes in f32, so the check is made where f32 can answer: along the gradient itself, whose slope
// must be its norm, and along random directions, whose slope must be their product with the gradient: a part
// that the gradient lacks shows only there. A central difference over a step h errs by O(h²) (removed to
// O(h⁴) by Richardson's extrapolation of two steps) and by the rounding of the loss, about 1e-7·|loss|/h.
// With h chosen so that the loss moves by 1e-2 along the gradient both stay below 2e-3 of the slope.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "brood/autograd/tape.h"
#include "brood/base/random.h"

namespace brood::testing {

inline double total(Var loss) {
  double sum = 0;
  for (int64_t i = 0; i < loss.size(); ++i) sum += double(loss.value()[i]);
  return sum;
}

// The slope of loss() with values moved along direction, by steps of h and 2h.
inline double slope_along(std::span<float> values, std::span<const double> direction, double h,
                          const std::function<double()>& loss) {
  const std::vector<float> before(values.begin(), values.end());
  const auto slope = [&](double step) {
    double ends[2];
    for (int side = 0; side < 2; ++side) {
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = float(double(before[i]) + (side ? step : -step) * direction[i]);
      ends[side] = loss();
    }
    std::copy(before.begin(), before.end(), values.begin());
    return (ends[1] - ends[0]) / (2 * step);
  };
  return (4 * slope(h) - slope(2 * h)) / 3;
}

// The tape's gradient of loss() at values, whose length is norm.
inline void expect_slope(std::span<float> values, std::span<const float> gradient, double norm,
                         const std::function<double()>& loss, const std::string& name, double tolerance) {
  std::vector<double> direction(gradient.begin(), gradient.end());
  for (double& x : direction) x /= norm;
  EXPECT_NEAR(slope_along(values, direction, std::min(0.02, 1e-2 / norm), loss) / norm, 1.0, tolerance)
      << name << ": |gradient| " << norm;

  Random random(values.size());
  for (int i = 0; i < 2; ++i) {
    // Each number up or down by the same: a slope of about the norm, whatever the number of numbers. All of
    // them move, so that rounding and the kinks of a ReLU count for more than along the gradient.
    double expected = 0;
    for (size_t j = 0; j < direction.size(); ++j) {
      direction[j] = random.below(2) ? 1.0 : -1.0;
      expected += direction[j] * double(gradient[j]);
    }
    const double slope = slope_along(values, direction, std::min(0.005, 1e-3 / norm), loss);
    EXPECT_NEAR(slope / norm, expected / norm, 4 * tolerance)
        << name << ": along a random direction, |gradient| " << norm;
  }
}

// loss_of makes a forward pass on the started tape and returns the loss, whose elements are summed. Every
// parameter of the store must take part, but those that keep a balance, whose "gradient" is none.
inline void expect_gradients(ParameterStore& store, const std::function<Var(Tape&)>& loss_of,
                             double tolerance = 5e-3) {
  Tape tape;
  tape.start(true);
  tape.backward(loss_of(tape));
  std::vector<std::vector<float>> gradients;
  for (Parameter& p : store.all()) {
    ASSERT_TRUE(p.gradient_open) << p.name << " got no gradient";
    gradients.emplace_back(p.gradient.f32(), p.gradient.f32() + p.size());
    p.gradient_open = false;
  }
  size_t i = 0;
  for (Parameter& p : store.all()) {
    const std::vector<float>& gradient = gradients[i++];
    if (p.balance_rate > 0) continue;
    double norm = 0;
    for (float g : gradient) norm += double(g) * double(g);
    norm = std::sqrt(norm);
    ASSERT_TRUE(std::isfinite(norm)) << p.name;
    ASSERT_GT(norm, 1e-6) << p.name << ": nothing to compare with";
    const auto loss = [&] {
      ++p.version;
      tape.start(false);
      return total(loss_of(tape));
    };
    expect_slope({p.value.f32(), size_t(p.size())}, gradient, norm, loss, p.name, tolerance);
    ++p.version;
  }
}

}  // namespace brood::testing
