// Gated DeltaNet as its equations read, in double precision; and eigenvalues below zero.
#include <algorithm>
#include <cmath>

#include "tests/blocks/one_block.h"
#include "tests/reference/activation.h"

namespace brood {
namespace {

using testing::OneBlock;
using testing::times;

constexpr size_t kModel = 7, kHeads = 2, kN = 3, kP = 6, kTaps = 4, kSteps = 30;

// silu(conv(W x)) of all steps, [T][channels].
Numbers convolved(OneBlock& block, const Numbers& x, const std::string& name) {
  const Numbers W = block.numbers(name + "_proj.weight"), taps = block.numbers(name + "_conv1d.weight");
  const size_t channels = W.size() / kModel;
  Numbers in, out;
  for (size_t t = 0; t < kSteps; ++t) {
    const Numbers row = times(W, x.data() + t * kModel, kModel);
    in.insert(in.end(), row.begin(), row.end());
  }
  for (size_t t = 0; t < kSteps; ++t)
    for (size_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (size_t j = 0; j < kTaps && j <= t; ++j)
        sum += taps[c * kTaps + kTaps - 1 - j] * in[(t - j) * channels + c];
      out.push_back(reference::silu(sum));
    }
  return out;
}

Numbers unit(const double* x) {
  double squares = 1e-6;
  for (size_t i = 0; i < kN; ++i) squares += x[i] * x[i];
  Numbers y(x, x + kN);
  for (double& v : y) v /= std::sqrt(squares);
  return y;
}

struct Run {
  Numbers y;
  double lowest = 1;  // of all α(1 − β), the transition's eigenvalue along k
};

Run equations(OneBlock& block, const Floats& rows, double most) {
  const Numbers x = widen(rows), q = convolved(block, x, "q"), k = convolved(block, x, "k"),
                v = convolved(block, x, "v");
  const Numbers a_log = block.numbers("A_log"), dt_bias = block.numbers("dt_bias");
  const Numbers norm = block.numbers("o_norm.weight"), out = block.numbers("o_proj.weight");
  Numbers S(kHeads * kN * kP);
  Run run;
  for (size_t t = 0; t < kSteps; ++t) {
    const double* now = x.data() + t * kModel;
    const Numbers a = times(block.numbers("a_proj.weight"), now, kModel),
                  b = times(block.numbers("b_proj.weight"), now, kModel),
                  g = times(block.numbers("g_proj.weight"), now, kModel);
    Numbers gated;
    for (size_t h = 0; h < kHeads; ++h) {
      const double alpha = std::exp(-std::exp(a_log[h]) * std::log1p(std::exp(a[h] + dt_bias[h])));
      const double beta = most * reference::sigmoid(b[h]);
      run.lowest = std::min(run.lowest, alpha * (1 - beta));
      const Numbers key = unit(k.data() + (t * kHeads + h) * kN),
                    query = unit(q.data() + (t * kHeads + h) * kN);
      double* memory = S.data() + h * kN * kP;
      Numbers o(kP);
      double squares = 0;
      for (size_t p = 0; p < kP; ++p) {
        double known = 0;  // what the faded memory says of this key
        for (size_t n = 0; n < kN; ++n) known += (memory[n * kP + p] *= alpha) * key[n];
        const double error = v[(t * kHeads + h) * kP + p] - known;
        for (size_t n = 0; n < kN; ++n) {
          memory[n * kP + p] += beta * key[n] * error;
          o[p] += memory[n * kP + p] * query[n] / std::sqrt(double(kN));
        }
        squares += o[p] * o[p] / double(kP);
      }
      for (size_t p = 0; p < kP; ++p)
        gated.push_back(o[p] / std::sqrt(squares + 1e-5) * norm[p] * reference::silu(g[h * kP + p]));
    }
    const Numbers y = times(out, gated.data(), gated.size());
    run.y.insert(run.y.end(), y.begin(), y.end());
  }
  return run;
}

Run check(bool negative) {
  OneBlock block("gated_deltanet",
                 {{"n_head", kHeads}, {"head_dim", kN}, {"expand_v", 2}, {"allow_neg_eigval", negative}},
                 kModel);
  block.scale("b_proj.weight", 4);  // β near its ends
  const Floats x = normals(int64_t(kSteps * kModel), 4);
  const Run run = equations(block, x, negative ? 2 : 1);
  // Thirty steps, some tens of operations each; a norm divides by small numbers.
  testing::expect_same(block.run(x), run.y, double(kSteps) * 64 * kRoundoff);
  return run;
}

TEST(GatedDeltaNet, IsItsEquations) { EXPECT_GE(check(false).lowest, 0); }

TEST(GatedDeltaNet, MayTurnADirectionRound) { EXPECT_LT(check(true).lowest, -0.5); }

}  // namespace
}  // namespace brood
