// Inputs and losses for tests of the tape's operations: see check.h.
#pragma once

#include <cstdint>
#include <vector>

#include "brood/autograd/ops.h"
#include "brood/base/random.h"
#include "tests/autograd/check.h"

namespace brood::testing {

inline Parameter& random_parameter(ParameterStore& store, const char* name, const Shape& shape,
                                   Random& random, float stddev = 1.0f) {
  Parameter& p = store.add(name, shape);
  random.fill_normal(p.value.f32(), p.size(), stddev);
  return p;
}

// A parameter seen as a [rows, cols] input: rows of an embedding, each taken once.
inline Var as_input(Tape& tape, Parameter& p) {
  std::vector<int32_t> rows;
  for (int32_t r = 0; r < p.value.shape()[0]; ++r) rows.push_back(r);
  return embedding(tape, rows, p);
}

// A fixed random weighting turns any output into a loss whose gradient differs from element to element.
inline Var weigh(Tape& tape, Var y, uint64_t seed = 99) {
  Var w = tape.make(y.rows(), y.cols(), false);
  Random random(seed);
  random.fill_normal(w.value(), y.size(), 1.0f);
  return mul(tape, y, w);
}

// y, and behind it, where the tape records, the gradient of each parameter that has one.
inline std::vector<float> with_gradients(Tape& tape, Var y, ParameterStore& store) {
  std::vector<float> all(y.value(), y.value() + y.size());
  if (!tape.recording()) return all;
  tape.backward(weigh(tape, y, 3));
  for (const Parameter& p : store.all())
    if (p.gradient_open) all.insert(all.end(), p.gradient.f32(), p.gradient.f32() + p.size());
  return all;
}

// Two losses as one number; b may be empty.
inline Var sum_of(Tape& tape, Var a, Var b) {
  Var sum = tape.make(1, 1, true);
  sum.value()[0] = float(total(a) + (b ? total(b) : 0));
  tape.record(sum, [&tape, sum, a, b] {
    const float g = tape.gradient(sum)[0];
    for (Var v : {a, b})
      for (int64_t i = 0; v && i < v.size(); ++i) tape.gradient(v)[i] += g;
  });
  return sum;
}

}  // namespace brood::testing
