// The slope of a loss of a reference problem along a direction of one of its inputs.
#pragma once

#include <cstddef>
#include <vector>

namespace brood {

template <class Problem, class Loss>
double central_difference(Problem r, std::vector<double> Problem::*member,
                          const std::vector<double>& direction, const Loss& loss) {
  constexpr double kStep = 1e-5;
  const std::vector<double> at = r.*member;
  double value[2];
  for (int side = 0; side < 2; ++side) {
    for (size_t i = 0; i < at.size(); ++i)
      (r.*member)[i] = at[i] + (side == 0 ? kStep : -kStep) * direction[i];
    value[side] = loss(r);
  }
  return (value[0] - value[1]) / (2 * kStep);
}

}  // namespace brood
