// What the tests of scans share: a kernel against a slow reference in double precision, in its values and in
// the gradient of every input, which are compared with finite differences of the reference.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "brood/base/random.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"

namespace brood {

// Random numbers that a float holds exactly, so that kernel and reference see the same problem.
inline Numbers draw(Random& random, int64_t n, double low, double high) {
  Numbers x(static_cast<size_t>(n));
  for (double& v : x) v = double(float(random.uniform(low, high)));
  return x;
}

inline Floats narrow(const Numbers& x) { return Floats(x.begin(), x.end()); }

// Columns of a wider matrix: [rows, cols] from column `at` of rows of `stride`, and NaN elsewhere.
struct WideRows {
  int64_t rows, cols, at, stride;
  Floats data;
  WideRows(int64_t rows_, int64_t cols_, int64_t before, int64_t after, float elsewhere)
      : rows(rows_), cols(cols_), at(before), stride(before + cols_ + after) {
    data.assign(size_t(rows * stride), elsewhere);
  }
  WideRows(const Numbers& x, int64_t rows_, int64_t before, int64_t after)
      : WideRows(rows_, int64_t(x.size()) / rows_, before, after, NAN) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) data[size_t(r * stride + at + c)] = float(x[size_t(r * cols + c)]);
  }
  float* begin() { return data.data() + at; }
  const float* begin() const { return data.data() + at; }
  Floats values() const {
    Floats x;
    for (int64_t r = 0; r < rows; ++r)
      x.insert(x.end(), data.begin() + r * stride + at, data.begin() + r * stride + at + cols);
    return x;
  }
};

struct ScanValues {
  Numbers y, state;
};
struct ScanRun {
  Floats y, state;
  std::vector<Floats> gradients;  // in the order of the inputs; kernels add, so each began at kBefore
};
constexpr float kBefore = 0.25f;

// What a run forward (y, state) and backward gave, one behind the other.
template <class Forward>
Floats everything_of(const Forward& out, const std::vector<Floats>& gradients) {
  Floats all = out.y;
  all.insert(all.end(), out.state.begin(), out.state.end());
  for (const Floats& g : gradients) all.insert(all.end(), g.begin(), g.end());
  return all;
}

struct ScanCase {
  std::vector<std::string> names;
  std::vector<Numbers> inputs;
  std::function<ScanValues(const std::vector<Numbers>&)> reference;
  // The gradients are those of ⟨dy, y⟩ + ⟨dstate, state⟩; dstate may be empty: no gradient comes into the
  // state.
  std::function<ScanRun(const Numbers& dy, const Numbers& dstate)> kernel;
  double terms;  // how many rounding errors add up in one number
};

inline double largest(const Numbers& x, double at_least = 1) {
  for (double v : x) at_least = std::max(at_least, std::abs(v));
  return at_least;
}

inline void expect_values(const ScanCase& c) {
  const ScanValues truth = c.reference(c.inputs);
  const double bound = 8 * kRoundoff * c.terms * largest(truth.y, largest(truth.state));
  for_every_target([&] {
    const ScanRun run = c.kernel(Numbers(truth.y.size(), 0.0), {});
    expect_close("y", run.y, truth.y, [&](size_t) { return bound; });
    expect_close("state", run.state, truth.state, [&](size_t) { return bound; });
  });
}

struct ScanLoss {
  const ScanCase& scan;
  Numbers dy, dstate;
  ScanLoss(const ScanCase& c, bool with_state) : scan(c) {
    const ScanValues values = c.reference(c.inputs);
    Random random(7);
    dy = draw(random, int64_t(values.y.size()), -1, 1);
    if (with_state) dstate = draw(random, int64_t(values.state.size()), -1, 1);
  }
  // The derivative along direction in one of the inputs; the error is of fourth order in the step.
  double slope(size_t input, const Numbers& direction) const {
    constexpr double kStep = 2e-4;
    std::vector<Numbers> moved = scan.inputs;
    const auto loss = [&](double step) {
      for (size_t i = 0; i < direction.size(); ++i)
        moved[input][i] = scan.inputs[input][i] + step * direction[i];
      const ScanValues values = scan.reference(moved);
      return dot(dy, values.y) + (dstate.empty() ? 0 : dot(dstate, values.state));
    };
    return (8 * (loss(kStep) - loss(-kStep)) - (loss(2 * kStep) - loss(-2 * kStep))) / (12 * kStep);
  }
};

inline void expect_every_gradient(const ScanCase& c, bool with_state) {
  const ScanLoss loss(c, with_state);
  std::vector<Numbers> truth;
  double most = 1;
  for (size_t input = 0; input < c.inputs.size(); ++input) {
    truth.emplace_back();
    for (size_t i = 0; i < c.inputs[input].size(); ++i) {
      Numbers direction(c.inputs[input].size(), 0.0);
      direction[i] = 1;
      truth[input].push_back(loss.slope(input, direction));
    }
    most = largest(truth[input], most);
    for (double& v : truth[input]) v += double(kBefore);
  }
  for_every_target([&] {
    const ScanRun run = c.kernel(loss.dy, loss.dstate);
    for (size_t input = 0; input < truth.size(); ++input)
      expect_close("gradient of " + c.names[input], run.gradients[input], truth[input],
                   [&](size_t) { return 8 * kRoundoff * c.terms * most + 1e-9; });
  });
}

// For larger shapes: along random directions of signs, one for each input.
inline void expect_gradients_along_directions(const ScanCase& c, bool with_state) {
  const ScanLoss loss(c, with_state);
  Random random(3);
  std::vector<Numbers> directions;
  Numbers truth;
  for (size_t input = 0; input < c.inputs.size(); ++input) {
    Numbers& direction = directions.emplace_back(c.inputs[input].size());
    for (double& v : direction) v = random.below(2) == 0 ? -1 : 1;
    // A shorter step where many numbers move at once.
    const double shrink = 1 / std::sqrt(double(direction.size()));
    Numbers shrunk = direction;
    for (double& v : shrunk) v *= shrink;
    truth.push_back(loss.slope(input, shrunk) / shrink);
  }
  for_every_target([&] {
    const ScanRun run = c.kernel(loss.dy, loss.dstate);
    for (size_t input = 0; input < truth.size(); ++input) {
      double along = 0, squares = double(directions[input].size());
      for (size_t i = 0; i < directions[input].size(); ++i) {
        const double gradient = double(run.gradients[input][i]) - double(kBefore);
        along += gradient * directions[input][i];
        squares += gradient * gradient;
      }
      // Each element's error is random in sign: theirs add up as their squares do.
      ASSERT_NEAR(along, truth[input], 16 * kRoundoff * c.terms * std::sqrt(squares)) << c.names[input];
    }
  });
}

}  // namespace brood
