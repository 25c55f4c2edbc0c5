// Problems for the tests of the scalar scan, drawn at random, and what the kernels make of them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <vector>

#include "brood/kernels/scalar_scan.h"
#include "tests/kernels/scan_check.h"
#include "tests/reference/scalar_scan.h"

namespace brood::kernels {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
using reference::ScalarScanResult;

struct Shape {
  int64_t B, T, heads, groups, P, N;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << "B " << s.B << " T " << s.T << " heads " << s.heads << " groups " << s.groups << " P " << s.P
             << " N " << s.N;
}

inline reference::ScalarScan draw_problem(uint64_t seed, const Shape& z) {
  Random random(seed);
  const int64_t rows = z.B * z.T;
  return {z.B,
          z.T,
          z.heads,
          z.groups,
          z.P,
          z.N,
          draw(random, rows * z.heads * z.P, -1, 1),
          draw(random, rows * z.groups * z.N, -1, 1),
          draw(random, rows * z.groups * z.N, -1, 1),
          draw(random, rows * z.heads, -2, -0.001),
          draw(random, rows * z.heads, 0, 1),
          draw(random, rows * z.heads, -1, 1),
          draw(random, z.B * z.heads * z.N * z.P, -1, 1)};
}

// The same problem as the kernels want it: v, k and q are columns of wider rows, as the projections leave
// them.
struct Problem {
  Shape z;
  int64_t wide;
  Floats vkq, log_decay, weight, skip, state;
  int64_t chunk = kScalarScanChunk;

  explicit Problem(const reference::ScalarScan& r)
      : z{r.B, r.T, r.heads, r.groups, r.P, r.N},
        wide(3 + r.heads * r.P + 2 * r.groups * r.N),
        vkq(size_t(r.B * r.T * wide), NAN),
        log_decay(r.log_decay.begin(), r.log_decay.end()),
        weight(r.weight.begin(), r.weight.end()),
        skip(r.skip.begin(), r.skip.end()),
        state(r.state.begin(), r.state.end()) {
    for (int64_t row = 0; row < r.B * r.T; ++row) {
      std::copy_n(r.v.data() + row * values(), values(), vkq.data() + row * wide + 3);
      std::copy_n(r.k.data() + row * keys(), keys(), vkq.data() + row * wide + key_column());
      std::copy_n(r.q.data() + row * keys(), keys(), vkq.data() + row * wide + query_column());
    }
  }
  int64_t values() const { return z.heads * z.P; }
  int64_t keys() const { return z.groups * z.N; }
  int64_t key_column() const { return 3 + values(); }
  int64_t query_column() const { return key_column() + keys(); }

  ScalarScan scan() const {
    return {.B = z.B,
            .T = z.T,
            .heads = z.heads,
            .groups = z.groups,
            .P = z.P,
            .N = z.N,
            .v = vkq.data() + 3,
            .v_stride = wide,
            .k = vkq.data() + key_column(),
            .k_stride = wide,
            .q = vkq.data() + query_column(),
            .q_stride = wide,
            .log_decay = log_decay.data(),
            .log_decay_stride = z.heads,
            .weight = weight.data(),
            .weight_stride = z.heads,
            .skip = skip.data(),
            .skip_stride = z.heads,
            .state_in = state.data(),
            .chunk = chunk};
  }
};

// Rows [from, from + steps) of a one-stream problem.
inline ScalarScan part_of(const Problem& p, int64_t from, int64_t steps, const float* state) {
  ScalarScan s = p.scan();
  s.T = steps;
  s.v += from * p.wide;
  s.k += from * p.wide;
  s.q += from * p.wide;
  s.log_decay += from * s.log_decay_stride;
  s.weight += from * s.weight_stride;
  s.skip += from * s.skip_stride;
  s.state_in = state;
  return s;
}

struct Outputs {
  Floats y, state, checkpoints;
};

inline Outputs forward(const ScalarScan& s) {
  Outputs out{Floats(size_t(s.B * s.T * s.heads * s.P), NAN), Floats(size_t(s.B * s.heads * s.N * s.P), NAN),
              Floats(size_t(scalar_scan_checkpoint_size(s)), NAN)};
  Floats scratch(size_t(scalar_scan_scratch(s)), NAN);
  scalar_scan_forward(s, out.y.data(), out.state.data(), out.checkpoints.data(), scratch.data());
  return out;
}

inline Outputs recurrence(const ScalarScan& s) {
  Outputs out{
      Floats(size_t(s.B * s.T * s.heads * s.P), NAN), Floats(size_t(s.B * s.heads * s.N * s.P), NAN), {}};
  scalar_scan_recurrence(s, out.y.data(), out.state.data());
  return out;
}

// A state is a sum of at most T terms, each decayed by a product that one exponential (or T of them) makes: a
// few units each of the largest there is. y sums N of them, of random sign.
inline double value_tolerance(const reference::ScalarScan& r, const ScalarScanResult& truth) {
  const double terms = double(std::min<int64_t>(r.T, 64)) + std::sqrt(double(r.N)) * 2 + 8;
  return kEpsilon * terms * std::max({1.0, largest(truth.state), largest(truth.y)});
}

// The inputs by name, so that loops can go over them.
inline Numbers reference::ScalarScan::*const kMembers[] = {
    &reference::ScalarScan::v,         &reference::ScalarScan::k,      &reference::ScalarScan::q,
    &reference::ScalarScan::log_decay, &reference::ScalarScan::weight, &reference::ScalarScan::skip,
    &reference::ScalarScan::state};
inline const char* const kNames[] = {"v", "k", "q", "log_decay", "weight", "skip", "state_in"};
constexpr size_t kInputs = std::size(kMembers);

struct Loss {
  Numbers dy, dstate;
  double operator()(const reference::ScalarScan& r) const {
    const ScalarScanResult result = reference::scalar_scan(r);
    return dot(dy, result.y) + (dstate.empty() ? 0 : dot(dstate, result.state));
  }
};

inline Loss draw_loss(const reference::ScalarScan& r, bool with_state) {
  Random random(7);
  return {draw(random, int64_t(r.v.size()), -1, 1),
          draw(random, with_state ? int64_t(r.state.size()) : 0, -1, 1)};
}

// Every gradient, in the order of kMembers. They start at `before`, since the kernel adds to what is there,
// which is taken off again.
inline std::vector<Floats> gradients_of(const Problem& p, const Loss& loss) {
  const float before = 0.25f;
  const ScalarScan s = p.scan();
  const Outputs out = forward(s);
  const Floats dy(loss.dy.begin(), loss.dy.end()), dstate(loss.dstate.begin(), loss.dstate.end());
  Floats vkq(p.vkq.size(), before), log_decay(p.log_decay.size(), before), weight(p.weight.size(), before),
      skip(p.skip.size(), before), state(p.state.size(), before);
  const ScalarScanGradients g{.v = vkq.data() + 3,
                              .v_stride = p.wide,
                              .k = vkq.data() + p.key_column(),
                              .k_stride = p.wide,
                              .q = vkq.data() + p.query_column(),
                              .q_stride = p.wide,
                              .log_decay = log_decay.data(),
                              .log_decay_stride = s.heads,
                              .weight = weight.data(),
                              .weight_stride = s.heads,
                              .skip = skip.data(),
                              .skip_stride = s.heads,
                              .state_in = state.data()};
  Floats scratch(size_t(scalar_scan_backward_scratch(s)), NAN);
  scalar_scan_backward(s, out.y.data(), out.state.data(), out.checkpoints.data(), dy.data(),
                       dstate.empty() ? nullptr : dstate.data(), g, scratch.data());
  auto columns = [&](int64_t begin, int64_t width) {
    Floats x;
    for (int64_t row = 0; row < s.B * s.T; ++row)
      x.insert(x.end(), vkq.begin() + row * p.wide + begin, vkq.begin() + row * p.wide + begin + width);
    return x;
  };
  std::vector<Floats> all = {columns(3, p.values()),
                             columns(p.key_column(), p.keys()),
                             columns(p.query_column(), p.keys()),
                             log_decay,
                             weight,
                             skip,
                             state};
  for (Floats& x : all)
    for (float& v : x) v -= before;
  return all;
}

// A gradient sums products of states, keys and values over P, N or the heads of a group; that of a decay also
// over the steps after it.
inline double gradient_tolerance(const reference::ScalarScan& r, double most) {
  return kEpsilon * (32 + 4 * double(std::min<int64_t>(r.T, 64) + r.N + r.P + r.heads)) * std::max(1.0, most);
}

}  // namespace brood::kernels
