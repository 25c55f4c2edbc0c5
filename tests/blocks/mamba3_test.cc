// Mamba-3 against its recurrence in double precision, and as Mamba-2's where its novelties are switched off.
#include "tests/reference/mamba3.h"

#include <cmath>

#include "tests/blocks/one_block.h"
#include "tests/reference/activation.h"

namespace brood {
namespace {

using testing::OneBlock;
using testing::times;

constexpr size_t kModel = 6, kHeads = 4, kP = 3, kGroups = 2, kN = 6, kAngles = 1, kSteps = 40,
                 kInner = kHeads * kP;
constexpr size_t kShareRow = 2 * kInner + 2 * kGroups * kN + 2 * kHeads, kAngleRow = kShareRow + kHeads;
const nlohmann::json kConfig = {{"expand", 2}, {"head_dim", kP}, {"n_groups", kGroups}, {"d_state", kN}};

Numbers rms(const double* x, const Numbers& weight) {
  double squares = 0;
  for (size_t i = 0; i < kN; ++i) squares += x[i] * x[i] / double(kN);
  Numbers y;
  for (size_t i = 0; i < kN; ++i) y.push_back(x[i] / std::sqrt(squares + 1e-5) * weight[i]);
  return y;
}

// What in_proj makes of each row, as the recurrence wants it.
struct Projected {
  Numbers z, v, b, c, log_decay, delta, share, rate;
  Projected(OneBlock& block, const Numbers& x) {
    const Numbers W = block.numbers("in_proj.weight"), dt_bias = block.numbers("dt_bias");
    const Numbers b_norm = block.numbers("B_norm.weight"), c_norm = block.numbers("C_norm.weight");
    for (size_t t = 0; t < kSteps; ++t) {
      const Numbers row = times(W, x.data() + t * kModel, kModel);
      const double* at = row.data();
      z.insert(z.end(), at, at + kInner), at += kInner;
      v.insert(v.end(), at, at + kInner), at += kInner;
      for (Numbers* to : {&b, &c})
        for (size_t g = 0; g < kGroups; ++g, at += kN) {
          const Numbers normed = rms(at, to == &b ? b_norm : c_norm);
          to->insert(to->end(), normed.begin(), normed.end());
        }
      for (size_t h = 0; h < kHeads; ++h) {
        const double dt = std::log1p(std::exp(at[h] + dt_bias[h])), a = at[kHeads + h];
        delta.push_back(dt);
        log_decay.push_back(-std::max(a >= 0 ? 1 + a : 1 / (1 - a), 1e-4) * dt);
        share.push_back(reference::sigmoid(at[2 * kHeads + h]));
      }
      rate.push_back(std::tanh(at[3 * kHeads]));
    }
  }
};

Numbers gated_out(OneBlock& block, const Numbers& y, const Numbers& z) {
  Numbers gated, out;
  for (size_t i = 0; i < y.size(); ++i) gated.push_back(y[i] * reference::silu(z[i]));
  for (size_t t = 0; t < kSteps; ++t) {
    const Numbers row = times(block.numbers("out_proj.weight"), gated.data() + t * kInner, kInner);
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

// Forty steps, some tens of operations each.
constexpr double kShare = double(kSteps) * 64 * kRoundoff;

TEST(Mamba3, IsItsRecurrence) {
  OneBlock block("mamba3", kConfig, kModel);
  block.scale("in_proj.weight", 3);
  for (size_t h = 0; h < kHeads; ++h) block.change("dt_bias", int64_t(h), 0.5f - 0.3f * float(h));
  for (size_t i = 0; i < kHeads * kN; ++i) block.change("B_bias", int64_t(i), 0.1f * float(i % 7));
  const Floats x = normals(int64_t(kSteps * kModel), 4);
  const Projected in(block, widen(x));
  const reference::Mamba3 s{1, kSteps, kHeads, kGroups, kN, kP, kAngles};
  reference::Mamba3State state{Numbers(kHeads * kAngles), Numbers(kHeads * kN * kP), Numbers(kHeads * kN),
                               Numbers(kInner)};
  const Numbers b_bias = block.numbers("B_bias"), c_bias = block.numbers("C_bias"), D = block.numbers("D");
  const Numbers y = reference::mamba3(
      s, {in.v, in.b, in.c, b_bias, c_bias, in.log_decay, in.delta, in.share, in.rate, D}, state);
  testing::expect_same(block.run(x), gated_out(block, y, in.z), kShare);
}

// All the weight on the newest input and no turning is Euler's rule: S ← e^g S + Δ k vᵀ, Mamba-2's.
TEST(Mamba3, AShareOfOneAndNoTurningIsMamba2) {
  OneBlock block("mamba3", kConfig, kModel);
  Floats x = normals(int64_t(kSteps * kModel), 4);
  for (size_t t = 0; t < kSteps; ++t) x[t * kModel] = 1;
  for (size_t row = kShareRow; row < kAngleRow + kAngles; ++row)
    for (size_t c = 0; c < kModel; ++c)
      block.change("in_proj.weight", int64_t(row * kModel + c), row < kAngleRow && c == 0 ? 100 : 0);
  const Projected in(block, widen(x));
  const Numbers b_bias = block.numbers("B_bias"), c_bias = block.numbers("C_bias");
  Numbers S(kHeads * kN * kP), y(kSteps * kInner);
  for (size_t t = 0; t < kSteps; ++t)
    for (size_t h = 0; h < kHeads; ++h) {
      const size_t at = t * kHeads + h, group = (t * kGroups + h / (kHeads / kGroups)) * kN;
      for (size_t p = 0; p < kP; ++p) {
        y[at * kP + p] = in.v[at * kP + p];  // D = 1
        for (size_t n = 0; n < kN; ++n) {
          double& number = S[(h * kN + n) * kP + p];
          number = std::exp(in.log_decay[at]) * number +
                   in.delta[at] * (in.b[group + n] + b_bias[h * kN + n]) * in.v[at * kP + p];
          y[at * kP + p] += number * (in.c[group + n] + c_bias[h * kN + n]);
        }
      }
    }
  testing::expect_same(block.run(x), gated_out(block, y, in.z), kShare);
}

}  // namespace
}  // namespace brood
