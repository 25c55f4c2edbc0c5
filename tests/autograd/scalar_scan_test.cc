// The scalar scan on the tape against finite differences, and step by step against the chunk.
#include "brood/autograd/scalar_scan.h"

#include "tests/autograd/inputs.h"

namespace brood {
namespace {

using testing::as_input;
using testing::expect_gradients;
using testing::sum_of;
using testing::weigh;

Parameter& random_parameter(ParameterStore& store, const char* name, const Shape& shape, Random& random,
                            float low = -1, float high = 1) {
  Parameter& p = store.add(name, shape);
  random.fill_uniform(p.value.f32(), p.size(), low, high);
  return p;
}

// Of a small mixer: v, k and q are columns of one matrix.
struct Mixer {
  Mixer(int64_t streams, int64_t steps) : B(streams), T(steps) {}

  const int64_t B, T, heads = 6, groups = 2, P = 5, N = 4;
  ParameterStore store;
  Random random{7};
  Chunk chunk{.B = B, .T = T};
  Parameter& vkq = random_parameter(store, "vkq", {B * T, heads* P + 2 * groups* N}, random);
  Parameter& log_decay = random_parameter(store, "log_decay", {B * T, heads}, random, -2, -0.01f);
  Parameter& weight = random_parameter(store, "weight", {B * T, heads}, random, 0, 1);
  Parameter& skip = random_parameter(store, "skip", {heads}, random);
  Parameter& start = random_parameter(store, "state", {B, heads* N* P}, random);

  ScalarScanInputs inputs(Tape& tape) {
    Var all = as_input(tape, vkq);
    const int64_t k = heads * P, q = k + groups * N;
    return {.v = tape.columns(all, 0, k),
            .k = tape.columns(all, k, q),
            .q = tape.columns(all, q, all.cols()),
            .log_decay = as_input(tape, log_decay),
            .weight = as_input(tape, weight),
            .skip = as_row(tape, skip)};
  }
};

TEST(ScalarScanOp, EveryGradient) {
  for (int64_t T : {1, 3, 20, 70}) {
    Mixer m(2, T);
    for (bool final_state : {false, true}) {
      expect_gradients(m.store, [&](Tape& tape) {
        StateVar state{as_input(tape, m.start), {}};
        Var y = scalar_scan(tape, m.inputs(tape), m.heads, m.groups, m.chunk, state);
        return sum_of(tape, weigh(tape, y, 3), final_state ? weigh(tape, state.out, 5) : Var());
      });
    }
  }
}

// A final state that alone receives a gradient.
TEST(ScalarScanOp, OnlyTheFinalState) {
  Mixer m(1, 40);
  Tape tape;
  tape.start(true);
  StateVar state{as_input(tape, m.start), {}};
  ScalarScanInputs in = m.inputs(tape);
  scalar_scan(tape, in, m.heads, m.groups, m.chunk, state);
  tape.backward(weigh(tape, state.out, 5));
  EXPECT_TRUE(m.start.gradient_open);
  for (Parameter* p : {&m.start, &m.vkq, &m.log_decay})
    for (int64_t i = 0; i < p->size(); ++i) ASSERT_TRUE(std::isfinite(p->gradient.f32()[i])) << p->name;
  // The skip and the queries do not reach the state.
  for (int64_t i = 0; i < m.skip.size(); ++i) EXPECT_EQ(m.skip.gradient.f32()[i], 0.0f);
  const int64_t width = m.vkq.value.shape()[1];
  for (int64_t row = 0; row < 40; ++row)
    for (int64_t c = width - m.groups * m.N; c < width; ++c)
      ASSERT_EQ(m.vkq.gradient.f32()[row * width + c], 0.0f);
}

// Decays fixed for each head, no weights and no skips: retention.
TEST(ScalarScanOp, Retention) {
  Mixer m(1, 9);
  const std::vector<float> decays = {-0.03f, -0.02f, -0.01f, -0.5f, -1.0f, 0.0f};
  const auto loss = [&](Tape& tape) {
    StateVar state{as_input(tape, m.start), {}};
    ScalarScanInputs in = m.inputs(tape);
    in.log_decay = tape.leaf(const_cast<float*>(decays.data()), 1, m.heads);
    in.weight = in.skip = Var();
    return weigh(tape, scalar_scan(tape, in, m.heads, m.groups, m.chunk, state), 3);
  };
  Tape tape;
  tape.start(true);
  tape.backward(loss(tape));
  for (Parameter* p : {&m.vkq, &m.start}) {
    const std::vector<float> gradient(p->gradient.f32(), p->gradient.f32() + p->size());
    double squares = 0;
    for (float g : gradient) squares += double(g) * double(g);
    testing::expect_slope(
        {p->value.f32(), size_t(p->size())}, gradient, std::sqrt(squares),
        [&] {
          tape.start(false);
          return testing::total(loss(tape));
        },
        p->name, 5e-3);
  }
}

// Decoding: one step at a time, the state replaced in place, gives what a chunk gives.
TEST(ScalarScanOp, StepsEqualTheChunk) {
  Mixer m(1, 50);
  Tape tape;
  tape.start(false);
  ScalarScanInputs in = m.inputs(tape);
  StateVar whole{as_input(tape, m.start), {}}, carried{as_input(tape, m.start), {}};
  Var y = scalar_scan(tape, in, m.heads, m.groups, m.chunk, whole);
  const auto row = [&](Var x, int64_t t) {
    Var one = tape.leaf(x.value() + t * x.stride(), 1, x.cols());
    return one;
  };
  for (int64_t t = 0; t < m.T; ++t) {
    const ScalarScanInputs step{.v = row(in.v, t),
                                .k = row(in.k, t),
                                .q = row(in.q, t),
                                .log_decay = row(in.log_decay, t),
                                .weight = row(in.weight, t),
                                .skip = in.skip};
    Var out = scalar_scan(tape, step, m.heads, m.groups, Chunk{}, carried);
    for (int64_t i = 0; i < out.cols(); ++i)
      ASSERT_NEAR(out.value()[i], y.value()[t * y.cols() + i], 2e-5f) << "step " << t;
  }
  for (int64_t i = 0; i < m.start.size(); ++i)
    ASSERT_NEAR(carried.out.value()[i], whole.out.value()[i], 2e-5f);
}

}  // namespace
}  // namespace brood
