// The mixers and the feeds of RWKV-4 and RWKV-7 as their equations read, step by step in double precision.
#include <cmath>
#include <functional>

#include "tests/blocks/one_block.h"
#include "tests/reference/activation.h"
#include "tests/reference/norm.h"

namespace brood {
namespace {

using testing::OneBlock;
using testing::times;

constexpr size_t kModel = 6, kWide = 10, kSteps = 30;

// Thirty steps, some tens of operations each; averages and norms divide by small numbers.
constexpr double kShare = double(kSteps) * 64 * kRoundoff;

// step(x, before) of every row in turn, before the first of which there was nothing.
template <class Step>
Numbers step_by_step(const Floats& rows, const Step& step) {
  Numbers before(kModel), out;
  for (size_t t = 0; t < kSteps; ++t) {
    const Numbers x(rows.begin() + int64_t(t * kModel), rows.begin() + int64_t((t + 1) * kModel));
    const Numbers y = step(x, before);
    out.insert(out.end(), y.begin(), y.end());
    before = x;
  }
  return out;
}

// A matrix on a vector.
Numbers map(OneBlock& block, const std::string& name, const Numbers& x) {
  return times(block.numbers(name), x.data(), x.size());
}

// from + (to − from)∘share
Numbers between(const Numbers& from, const Numbers& to, const Numbers& share) {
  Numbers y(from);
  for (size_t i = 0; i < y.size(); ++i) y[i] += (to[i] - from[i]) * share[i];
  return y;
}

template <class F>
Numbers each(Numbers x, const F& f) {
  for (double& v : x) v = f(v);
  return x;
}

Numbers product(Numbers x, const Numbers& y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] *= y[i];
  return x;
}

double squared_rectifier(double x) { return x > 0 ? x * x : 0; }

Numbers rwkv4(OneBlock& block, const Floats& rows) {
  Numbers above(kModel), below(kModel);  // both sums over the past
  const Numbers decay = block.numbers("time_decay"), first = block.numbers("time_first");
  return step_by_step(rows, [&](const Numbers& x, const Numbers& before) {
    const auto mixed = [&](const char* share) { return between(before, x, block.numbers(share)); };
    const Numbers r = map(block, "receptance.weight", mixed("time_mix_receptance")),
                  k = map(block, "key.weight", mixed("time_mix_key")),
                  v = map(block, "value.weight", mixed("time_mix_value"));
    Numbers gated(kModel);
    for (size_t i = 0; i < kModel; ++i) {
      const double now = std::exp(first[i] + k[i]), fading = std::exp(-std::exp(decay[i]));
      gated[i] = reference::sigmoid(r[i]) * (above[i] + now * v[i]) / (below[i] + now);
      above[i] = fading * above[i] + std::exp(k[i]) * v[i];
      below[i] = fading * below[i] + std::exp(k[i]);
    }
    return map(block, "output.weight", gated);
  });
}

Numbers rwkv4_ffn(OneBlock& block, const Floats& rows) {
  return step_by_step(rows, [&](const Numbers& x, const Numbers& before) {
    const Numbers k = map(block, "key.weight", between(before, x, block.numbers("time_mix_key"))),
                  r = map(block, "receptance.weight",
                          between(before, x, block.numbers("time_mix_receptance")));
    return product(each(r, reference::sigmoid), map(block, "value.weight", each(k, squared_rectifier)));
  });
}

Numbers rwkv7_ffn(OneBlock& block, const Floats& rows) {
  return step_by_step(rows, [&](const Numbers& x, const Numbers& before) {
    const Numbers k = map(block, "key.weight", between(x, before, block.numbers("x_k")));
    return map(block, "value.weight", each(k, squared_rectifier));
  });
}

// One layer of RWKV-7's time mix; layers after the first are given the first one's values.
class Rwkv7 {
 public:
  Rwkv7(OneBlock& block, size_t heads, std::string prefix)
      : block_(block), N_(kModel / heads), prefix_(std::move(prefix)), S_(kModel * N_) {}

  Numbers step(const Numbers& x, const Numbers& before, const Numbers* first_values) {
    const auto mixed = [&](const char* share) { return between(x, before, numbers(share)); };
    const Numbers r = maps("r_proj.weight", mixed("x_r")), k = maps("k_proj.weight", mixed("x_k"));
    const Numbers w = each(low_rank("w_lora", mixed("x_w"), [](double z) { return std::tanh(z); }),
                           [](double z) { return std::exp(-std::exp(-0.5) * reference::sigmoid(z)); });
    const auto plain = [](double z) { return z; };
    const Numbers a = each(low_rank("a_lora", mixed("x_a"), plain), reference::sigmoid);
    const Numbers g =
        maps("g_lora.lora.2.weight", each(maps("g_lora.lora.0.weight", mixed("x_g")), reference::sigmoid));
    values = maps("v_proj.weight", mixed("x_v"));
    if (first_values)
      values =
          between(values, *first_values, each(low_rank("v_lora", mixed("x_v"), plain), reference::sigmoid));
    Numbers y(kModel);
    for (size_t from = 0; from < kModel; from += N_) head(from, r, w, k, values, a, y.data() + from);
    return maps("o_proj.weight", product(y, g));
  }

  Numbers values;  // of the last step

 private:
  Numbers numbers(const std::string& name) { return block_.numbers(prefix_ + name); }
  Numbers maps(const std::string& name, const Numbers& x) { return map(block_, prefix_ + name, x); }
  template <class F>
  Numbers low_rank(const std::string& name, const Numbers& x, const F& f) {
    Numbers y = maps(name + ".lora.2.weight", each(maps(name + ".lora.0.weight", x), f));
    const Numbers bias = numbers(name + ".lora.2.bias");
    for (size_t i = 0; i < y.size(); ++i) y[i] += bias[i];
    return y;
  }

  // The head whose channels begin at `from`: its memory moves on, and y [N] is what it gives before the gate.
  void head(size_t from, const Numbers& r, const Numbers& w, const Numbers& k, const Numbers& v,
            const Numbers& a, double* y) {
    const Numbers k_k = numbers("k_k"), k_a = numbers("k_a"), r_k = numbers("r_k");
    Numbers kappa(N_), key(N_), o(N_);
    double squares = 0, bonus = 0;
    for (size_t i = 0; i < N_; ++i) {
      kappa[i] = k[from + i] * k_k[from + i];
      squares += kappa[i] * kappa[i];
      key[i] = k[from + i] * (1 + (a[from + i] - 1) * k_a[from + i]);
      bonus += r[from + i] * key[i] * r_k[from + i];
    }
    for (double& c : kappa) c /= std::sqrt(squares);
    for (size_t i = 0; i < N_; ++i) {  // rows of S are values, columns keys
      double* row = S_.data() + (from + i) * N_;
      double known = 0;
      for (size_t j = 0; j < N_; ++j) known += row[j] * kappa[j];
      for (size_t j = 0; j < N_; ++j) {
        row[j] = row[j] * w[from + j] - known * kappa[j] * a[from + j] + v[from + i] * key[j];
        o[i] += row[j] * r[from + j];
      }
    }
    o = reference::layer_norm(int64_t(N_), o, double(N_) * 1e-5);
    const Numbers weight = numbers("g_norm.weight"), shift = numbers("g_norm.bias");
    for (size_t i = 0; i < N_; ++i) y[i] = o[i] * weight[from + i] + shift[from + i] + bonus * v[from + i];
  }

  OneBlock& block_;
  const size_t N_;
  const std::string prefix_;
  Numbers S_;
};

void check(OneBlock& block, float stddev, const std::function<Numbers(const Floats&)>& equations) {
  block.redraw(stddev);
  const Floats x = normals(int64_t(kSteps * kModel), 4);
  testing::expect_same(block.run(x), equations(x), kShare);
}

TEST(Rwkv4, IsItsEquations) {
  OneBlock block("rwkv4", nlohmann::json::object(), kModel);
  check(block, 0.8f, [&](const Floats& x) { return rwkv4(block, x); });
}

TEST(Rwkv4Ffn, IsItsEquations) {
  OneBlock block("rwkv4_ffn", {{"d_ff", kWide}}, kModel);
  check(block, 0.6f, [&](const Floats& x) { return rwkv4_ffn(block, x); });
}

TEST(Rwkv7Ffn, IsItsEquations) {
  OneBlock block("rwkv7_ffn", {{"d_ff", kWide}}, kModel);
  check(block, 0.6f, [&](const Floats& x) { return rwkv7_ffn(block, x); });
}

TEST(Rwkv7, IsItsEquations) {
  OneBlock block("rwkv7", {{"head_dim", 3}, {"gate_low_rank_dim", 4}}, kModel);
  check(block, 0.6f, [&](const Floats& x) {
    Rwkv7 layer(block, 2, "");
    return step_by_step(
        x, [&](const Numbers& now, const Numbers& before) { return layer.step(now, before, nullptr); });
  });
}

TEST(Rwkv7, LayersAfterTheFirstTakeOfItsValues) {
  OneBlock block("rwkv7", {{"head_dim", 2}, {"v_low_rank_dim", 5}}, kModel, 2);
  check(block, 0.6f, [&](const Floats& x) {
    Rwkv7 first(block, 3, "0."), second(block, 3, "1.");
    return step_by_step(x, [&](const Numbers& now, const Numbers& before) {
      first.step(now, before, nullptr);
      return second.step(now, before, &first.values);
    });
  });
}

}  // namespace
}  // namespace brood
