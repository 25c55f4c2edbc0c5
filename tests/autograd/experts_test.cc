// Experts on the tape: a loop over rows gives the same, whatever the loads; gradients of every kind of routing;
// bits do not depend on threads; optimisers leave alone what was not used; the bias balances.
#include "brood/autograd/experts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "brood/learn/riding.h"
#include "tests/autograd/inputs.h"
#include "tests/kernels/compare.h"
#include "tests/reference/routing.h"

namespace brood {
namespace {

using kernels::Routing;
using testing::as_input;
using testing::weigh;

// A set of experts over inputs that are a parameter, too.
struct Net {
  Net(int64_t rows_, const Routing& routing, bool gated, int64_t d_ = 10, int64_t width_ = 14,
      float balance_rate = 0)
      : rows(rows_), d(d_), width(width_) {
    x = &random("x", rows, d, 1.0f);
    set.routing = routing;
    set.router = &random("router", routing.n_expert, d, 2.0f / std::sqrt(float(d)));
    set.bias = nullptr;
    if (balance_rate > 0) {
      set.bias = &store.add("bias", {routing.n_expert});
      set.bias->balance_rate = balance_rate;
    }
    for (int64_t e = 0; e < routing.n_expert; ++e)
      set.experts.push_back({gated ? &random(fmt::format("gate{}", e), width, d, 0.4f) : nullptr,
                             &random(fmt::format("up{}", e), width, d, 0.4f),
                             &random(fmt::format("down{}", e), d, width, 0.4f)});
  }

  Parameter& random(const std::string& name, int64_t out, int64_t in, float stddev) {
    Parameter& p = store.add(name, {out, in});
    draw.fill_normal(p.value.f32(), p.size(), stddev);
    return p;
  }

  Var forward(Tape& tape, int64_t* counts = nullptr) {
    return routed_feed(tape, as_input(tape, *x), set, counts);
  }

  std::vector<float> logits(int64_t r) const {
    std::vector<float> z;
    for (int64_t e = 0; e < set.routing.n_expert; ++e) {
      double sum = 0;
      for (int64_t i = 0; i < d; ++i) sum += number(*x, r, i) * number(*set.router, e, i);
      z.push_back(float(sum));
    }
    return z;
  }

  // The smallest difference between a row's last chosen and its first not chosen.
  double narrowest_choice() const {
    double least = 1e9;
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<float> z = logits(r);
      Routing more = set.routing;
      if (more.top_k == more.n_expert) continue;
      const std::vector<double> s = reference::scores(more, z.data());
      more.top_k += 1;
      const auto order = reference::choose(more, s, nullptr);
      least = std::min(least, double(z[size_t(order[order.size() - 2])]) - double(z[size_t(order.back())]));
    }
    return least;
  }

  // Draws rows again until no row's choice is a near thing, so that finite differences change no choice.
  void choose_clearly(double margin) {
    for (int64_t r = 0; r < rows; ++r) {
      Net one(*this, r);
      while (one.narrowest_choice() < margin) draw.fill_normal(one.x->value.f32(), d, 1.0f);
      std::memcpy(x->value.f32() + r * d, one.x->value.f32(), size_t(d) * sizeof(float));
    }
  }

  // One row of another net.
  Net(const Net& other, int64_t row) : set(other.set), rows(1), d(other.d), width(other.width) {
    x = &store.add("x", {1, d});
    std::memcpy(x->value.f32(), other.x->value.f32() + row * d, size_t(d) * sizeof(float));
  }

  static double number(const Parameter& p, int64_t row, int64_t col) {
    return double(p.value.f32()[row * p.value.shape()[1] + col]);
  }

  ParameterStore store;
  Random draw{11};
  ExpertSet set;
  int64_t rows, d, width;
  Parameter* x;
};

// E(x) of row r, in double precision.
std::vector<double> expert_of_row(const Net& net, const Expert& expert, int64_t r) {
  std::vector<double> y(size_t(net.d), 0.0);
  for (int64_t j = 0; j < net.width; ++j) {
    double up = 0, gate = 0;
    for (int64_t i = 0; i < net.d; ++i) {
      up += Net::number(*net.x, r, i) * Net::number(*expert.up, j, i);
      if (expert.gate) gate += Net::number(*net.x, r, i) * Net::number(*expert.gate, j, i);
    }
    const double h = expert.gate ? gate / (1 + std::exp(-gate)) * up : std::pow(std::max(up, 0.0), 2);
    for (int64_t i = 0; i < net.d; ++i) y[size_t(i)] += h * Net::number(*expert.down, i, j);
  }
  return y;
}

std::vector<double> row_by_row(const Net& net) {
  const Routing& routing = net.set.routing;
  std::vector<double> all;
  for (int64_t r = 0; r < net.rows; ++r) {
    const std::vector<float> z = net.logits(r);
    const std::vector<double> s = reference::scores(routing, z.data());
    const auto chosen = reference::choose(routing, s, net.set.bias ? net.set.bias->value.f32() : nullptr);
    const std::vector<double> w = reference::weights(routing, s, chosen.data());
    std::vector<double> y(size_t(net.d), 0.0);
    for (size_t k = 0; k < chosen.size(); ++k) {
      const std::vector<double> e = expert_of_row(net, net.set.experts[size_t(chosen[k])], r);
      for (size_t i = 0; i < y.size(); ++i) y[i] += w[k] * e[i];
    }
    all.insert(all.end(), y.begin(), y.end());
  }
  return all;
}

std::vector<Routing> ways() {
  return {{.n_expert = 4, .top_k = 1},
          {.n_expert = 4, .top_k = 1, .softmax = true},
          {.n_expert = 5, .top_k = 2, .renormalise = true},
          {.n_expert = 5, .top_k = 3, .softmax = true, .renormalise = true},
          {.n_expert = 5, .top_k = 2, .softmax = true},
          {.n_expert = 3, .top_k = 3}};
}

TEST(Experts, EqualALoopOverRows) {
  for (Routing routing : ways())
    for (bool gated : {true, false})
      for (int64_t rows : {1, 2, 5, 40, 300}) {
        // More experts than rows leave some without any.
        for (int64_t n : {routing.n_expert, int64_t(17)}) {
          routing.n_expert = n;
          Net net(rows, routing, gated);
          Tape tape;
          for (bool recording : {false, true}) {
            tape.start(recording);
            std::vector<int64_t> counts(size_t(n), 0);
            const Var y = net.forward(tape, counts.data());
            const std::vector<double> expected = row_by_row(net);
            double largest = 0;
            for (double v : expected) largest = std::max(largest, std::abs(v));
            for (size_t i = 0; i < expected.size(); ++i)
              ASSERT_NEAR(y.value()[i], expected[i], 1e-5 * largest) << n << " experts, " << rows << " rows";
            int64_t choices = 0;
            for (int64_t c : counts) choices += c;
            EXPECT_EQ(choices, rows * routing.top_k);
          }
        }
      }
}

TEST(Experts, EveryGradient) {
  for (const Routing& routing : ways())
    for (bool gated : {true, false}) {
      SCOPED_TRACE(::testing::Message() << routing.top_k << " of " << routing.n_expert);
      Net net(24, routing, gated);
      net.choose_clearly(0.15);
      testing::expect_gradients(net.store, [&](Tape& tape) { return weigh(tape, net.forward(tape), 3); });
    }
}

// The routing's own losses are not on the tape; their gradients are.
TEST(Experts, GradientsOfTheLossesOfRouting) {
  for (Routing routing : ways()) {
    routing.balance_loss = 3;
    routing.z_loss = 2;
    Net net(24, routing, true);
    net.choose_clearly(0.15);
    Tape tape;
    tape.start(true);
    tape.backward(weigh(tape, net.forward(tape), 3));
    std::vector<int32_t> chosen;
    for (int64_t r = 0; r < net.rows; ++r)
      for (int32_t e : reference::choose(routing, reference::scores(routing, net.logits(r).data()), nullptr))
        chosen.push_back(e);
    const auto loss = [&] {
      tape.start(false);
      std::vector<float> z;
      for (int64_t r = 0; r < net.rows; ++r)
        for (float logit : net.logits(r)) z.push_back(logit);
      return testing::total(weigh(tape, net.forward(tape), 3)) +
             reference::losses(routing, net.rows, z.data(), chosen);
    };
    for (Parameter* p : {net.set.router, net.x}) {
      const std::vector<float> gradient(p->gradient.f32(), p->gradient.f32() + p->size());
      double squares = 0;
      for (float g : gradient) squares += double(g) * double(g);
      testing::expect_slope({p->value.f32(), size_t(p->size())}, gradient, std::sqrt(squares), loss, p->name,
                            5e-3);
    }
  }
}

// Many rows in blocks; few rows and one, whose products are shared out; with learning and, one row being taken
// another way there, without.
TEST(Experts, ThreadsDoNotChangeABit) {
  for (const int64_t rows : {1, 3, 700})
    for (const Precision precision : {Precision::kF32, Precision::kBf16})
      for (const bool recording : {true, false}) {
        SCOPED_TRACE(::testing::Message() << rows << " rows, bf16 " << (precision == Precision::kBf16)
                                          << ", recording " << recording);
        expect_same_for_threads([&] {
          // Of one row only experts above 256 kB are worth a second thread.
          Net net(rows, {.n_expert = 6, .top_k = 2, .renormalise = true}, true, rows < 8 ? 256 : 96,
                  rows < 8 ? 512 : 128, 1e-3f);
          Tape tape;
          tape.start(recording, precision);
          const Var y = net.forward(tape);
          return testing::with_gradients(tape, y, net.store);
        });
      }
}

// bf16 has 8 bits of mantissa: a sum of rounded products of about equal size is good to some 2^-8.
TEST(Experts, HalfPrecisionIsNear) {
  for (int64_t rows : {1, 50}) {
    Net net(rows, {.n_expert = 4, .top_k = 2, .renormalise = true}, true, 32, 64);
    const std::vector<double> expected = row_by_row(net);
    double largest = 0;
    for (double v : expected) largest = std::max(largest, std::abs(v));
    Tape tape;
    tape.start(true, Precision::kBf16);
    const Var y = net.forward(tape);
    for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(y.value()[i], expected[i], largest / 64) << rows;
    tape.backward(weigh(tape, y, 3));
    EXPECT_TRUE(net.set.router->gradient_open);
  }
}

// An expert without rows keeps its weights, moments included, under weight decay, too.
TEST(Experts, OnesNotUsedAreLeftAlone) {
  const OptimiserSettings settings{.learning_rate = 1e-2, .weight_decay = 0.1};
  for (bool rides : {false, true}) {
    Net net(1, {.n_expert = 4, .top_k = 1}, true);
    std::vector<int64_t> counts(4, 0);
    Optimiser optimiser(net.store, settings);
    RidingOptimiser riding(settings);
    std::vector<std::vector<float>> before;
    for (const Expert& e : net.set.experts)
      before.emplace_back(e.up->value.f32(), e.up->value.f32() + e.up->size());
    Tape tape;
    tape.start(true, Precision::kF32, rides ? &riding : nullptr);
    riding.begin_step(1e-2);
    tape.backward(weigh(tape, net.forward(tape, counts.data()), 3));
    if (!rides) optimiser.step(1e-2);
    for (size_t e = 0; e < 4; ++e) {
      const Parameter& up = *net.set.experts[e].up;
      const bool same = std::memcmp(before[e].data(), up.value.f32(), before[e].size() * sizeof(float)) == 0;
      EXPECT_EQ(same, counts[e] == 0) << e;
      EXPECT_EQ(up.moment1.empty(), counts[e] == 0) << e;
    }
  }
}

// max_e rows/mean − 1
double violation(const std::vector<int64_t>& counts) {
  double most = 0, sum = 0;
  for (int64_t c : counts) {
    most = std::max(most, double(c));
    sum += double(c);
  }
  return most * double(counts.size()) / sum - 1;
}

// Rows that all like the same few experts. Weights stand still; only the bias moves.
TEST(Experts, TheBiasBalances) {
  for (bool rides : {false, true})
    for (const Routing& routing :
         {Routing{.n_expert = 8, .top_k = 1}, Routing{.n_expert = 8, .top_k = 2, .renormalise = true}}) {
      Net net(512, routing, false, 16, 4, 1e-3f);
      // A direction common to all rows: every row prefers the experts that lie along it.
      for (int64_t r = 0; r < net.rows; ++r) net.x->value.f32()[r * net.d] += 4;
      const OptimiserSettings settings{
          .kind = OptimiserSettings::Kind::kSgd, .learning_rate = 0, .weight_decay = 0};
      Optimiser optimiser(net.store, settings);
      RidingOptimiser riding(settings);
      Tape tape;
      double first = 0, last = 0;
      for (int step = 0; step < 1000; ++step) {
        std::vector<int64_t> counts(8, 0);
        tape.start(true, Precision::kF32, rides ? &riding : nullptr);
        riding.begin_step(0);
        tape.backward(weigh(tape, net.forward(tape, counts.data()), 3));
        if (!rides) optimiser.step(0);
        last = violation(counts);
        if (step == 0) first = last;
      }
      EXPECT_GT(first, 1.0);
      EXPECT_LT(last, 0.2);
      double sum = 0;
      for (int64_t e = 0; e < 8; ++e) sum += double(net.set.bias->value.f32()[e]);
      EXPECT_NEAR(sum, 0, 1e-5);
    }
}

// Counts of several backward passes add up before the step, and clipping does not see them.
TEST(Experts, BalancesOverSeveralPasses) {
  Net net(64, {.n_expert = 4, .top_k = 1}, false, 8, 4, 0.5f);
  Optimiser optimiser(net.store, {.learning_rate = 0, .weight_decay = 0, .clip = 1});
  std::vector<int64_t> counts(4, 0);
  Tape tape;
  double squares = 0;
  for (int pass = 0; pass < 2; ++pass) {
    tape.start(true);
    tape.backward(weigh(tape, net.forward(tape, counts.data()), 3));
  }
  for (const Parameter& p : net.store.all())
    for (int64_t i = 0; &p != net.set.bias && p.gradient_open && i < p.size(); ++i)
      squares += double(p.gradient.f32()[i]) * double(p.gradient.f32()[i]);
  for (size_t e = 0; e < 4; ++e) EXPECT_EQ(net.set.bias->gradient.f32()[e], float(counts[e] - 32));
  EXPECT_NEAR(optimiser.step(0), std::sqrt(squares), 1e-4 * std::sqrt(squares));
  for (size_t e = 0; e < 4; ++e)
    for (size_t f = 0; f < 4; ++f) {
      const float* b = net.set.bias->value.f32();
      if (counts[e] > 32 && counts[f] < 32) {
        EXPECT_NEAR(b[f] - b[e], 1.0f, 1e-6);
      }
    }
}

}  // namespace
}  // namespace brood
