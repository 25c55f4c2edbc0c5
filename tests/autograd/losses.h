// What the tests of scans on the tape share: inputs that are parameters, and losses that tell elements apart.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "brood/autograd/ops.h"
#include "brood/base/random.h"
#include "tests/autograd/check.h"

namespace brood::testing {

// A parameter seen as a [rows, cols] input: rows of an embedding, each taken once.
inline Var as_input(Tape& tape, Parameter& p) {
  std::vector<int32_t> rows(size_t(p.value.shape()[0]));
  std::iota(rows.begin(), rows.end(), 0);
  return embedding(tape, rows, p);
}

// A fixed random weighting of y, so that the gradient differs from element to element.
inline Var weigh(Tape& tape, Var y, uint64_t seed) {
  Var w = tape.make(y.rows(), y.cols(), false);
  Random(seed).fill_normal(w.value(), y.size(), 1.0f);
  return mul(tape, y, w);
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
