// A spring found again: mass, damping and stiffness of  m y'' + c y' + k y = u  from recordings of the force u
// and the place y, sampled every dt seconds, the force held between samples.
//
// The equation has one oscillating mode λ = a + ib with a = −c/2m and a² + b² = k/m, and from rest
//
//   z' = λ z + u,   y = 2 Re(C z),   C = −i / (2 m b)
//
// which, the force held (zero-order hold), is exactly the scan of one complex mode (autograd/complex_scan.h):
//
//   z_t = Ā z_{t−1} + B̄ u_t,   Ā = e^{λ dt},   B̄ = (Ā − 1)/λ,   y_{t+1} = 2 Re(C z_t)
//
// AdamW learns log(−a), log b and C from any start whose damping is so strong that its resonance is broad
// enough to feel the true one; then c/m = −2a, k/m = a² + b², and m = −1/(2 b Im C). (S4D's mode: Gu et al.
// 2022, arXiv 2206.11893, with one state.)
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace brood {

struct Spring {
  double mass = 1, damping = 0.5, stiffness = 10;  // kg, kg/s, N/m
};

// Recordings that begin at rest: force[r·samples + t] acts from t·dt on, place[r·samples + t] is seen at
// (t + 1)·dt.
struct SpringRecordings {
  double dt = 0.05;  // seconds
  int64_t recordings = 0, samples = 0;
  std::vector<float> force, place;
};

struct SpringExperiment {
  double dt = 0.05;
  int64_t recordings = 8, samples = 500;
  double noise = 0.01;  // of the place that is seen, as a share of its root mean square
  uint64_t seed = 0;    // of the forces, which are white, and of the noise
};

// Solved exactly, not by small steps. Throws Error when a number cannot be that of a spring or it does not
// swing (c² ≥ 4 k m), and when this machine's memory cannot hold the recordings and their learning.
SpringRecordings record_spring(const Spring& spring, const SpringExperiment& experiment);

struct SpringLearning {
  int64_t steps = 2000;
  double learning_rate = 0.03;
  std::function<bool()> stop;                               // asked after every step; may be empty
  std::function<void(int64_t step, double error)> stepped;  // error: unexplained share of the variance
};

struct IdentifiedSpring {
  Spring spring;
  double unexplained = 1;  // share of the variance of the places
  int64_t steps = 0;
  bool found = false;  // false: stopped before there was one, and `spring` says nothing
};

// Throws Error when the places never move or the learning came to no spring (its mass would be negative).
IdentifiedSpring identify_spring(const SpringRecordings& recordings, const SpringLearning& learning = {});

}  // namespace brood
