// Every operation of the tape against finite differences, with several uses of one input so that accumulation
// shows.
#include "brood/autograd/ops.h"

#include "brood/base/random.h"
#include "brood/kernels/selective_scan.h"
#include "tests/autograd/inputs.h"

namespace brood {
namespace {

using testing::as_input;
using testing::expect_gradients;
using testing::random_parameter;
using testing::sum_of;
using testing::total;
using testing::weigh;

TEST(Ops, Embedding) {
  ParameterStore store;
  Random random(1);
  Parameter& table = random_parameter(store, "table", {5, 3}, random);
  const std::vector<int32_t> tokens = {4, 0, 0, 2, 1, 3};
  expect_gradients(store, [&](Tape& tape) { return weigh(tape, embedding(tape, tokens, table)); });
}

TEST(Ops, BlockLinear) {
  ParameterStore store;
  Random random(21);
  Parameter& x = random_parameter(store, "x", {5, 12}, random);
  Parameter& w = random_parameter(store, "w", {12, 4}, random);
  expect_gradients(store,
                   [&](Tape& tape) { return weigh(tape, block_linear(tape, as_input(tape, x), w, 3)); });
}

TEST(Ops, FoldedRowsAndNormsOfGroups) {
  ParameterStore store;
  Random random(22);
  Parameter& x = random_parameter(store, "x", {5, 12}, random);
  Parameter& shared = random_parameter(store, "shared", {4}, random);
  Parameter& own = random_parameter(store, "own", {12}, random);
  expect_gradients(store, [&](Tape& tape) {
    Var in = as_input(tape, x);
    Var y = rms_norm(tape, tape.folded(in, 4), shared, 1e-5f);
    y = rms_norm(tape, y, own, 1e-5f);
    return weigh(tape, mul(tape, tape.folded(y, 12), in));
  });
}

TEST(Ops, StepSizesOfAViewAndTheirDecays) {
  ParameterStore store;
  Random random(23);
  Parameter& x = random_parameter(store, "x", {5, 12}, random);
  Parameter& bias = random_parameter(store, "bias", {3}, random);
  Parameter& a_log = random_parameter(store, "a_log", {3}, random);
  expect_gradients(store, [&](Tape& tape) {
    Var in = as_input(tape, x);
    Var dt = softplus(tape, tape.columns(in, 2, 5), bias);
    return weigh(tape, mul(tape, decay_rates(tape, dt, a_log), contiguous(tape, tape.columns(in, 4, 7))));
  });
}

class LinearRows : public ::testing::TestWithParam<int> {};

TEST_P(LinearRows, LinearAndItsInput) {
  const int T = GetParam();
  ParameterStore store;
  Random random(2);
  Parameter& x = random_parameter(store, "x", {T, 6}, random);
  Parameter& w1 = random_parameter(store, "w1", {7, 6}, random);
  Parameter& w2 = random_parameter(store, "w2", {3, 2}, random);
  expect_gradients(store, [&](Tape& tape) {
    Var y = linear(tape, as_input(tape, x), w1);
    // Two overlapping views of the same rows.
    Var a = linear(tape, tape.columns(y, 1, 3), w2), b = linear(tape, tape.columns(y, 2, 4), w2);
    return weigh(tape, add(tape, a, b));
  });
}
INSTANTIATE_TEST_SUITE_P(Rows, LinearRows, ::testing::Values(1, 2, 3, 4, 5, 8, 17));

TEST(Ops, Norms) {
  for (int rows : {1, 3, 40}) {
    ParameterStore store;
    Random random(3);
    Parameter& x = random_parameter(store, "x", {rows, 9}, random);
    Parameter& w = random_parameter(store, "w", {9}, random);
    expect_gradients(store, [&](Tape& tape) {
      Var input = as_input(tape, x);
      return weigh(tape, add(tape, rms_norm(tape, input, w, 1e-5f), layer_norm(tape, input)));
    });
  }
}

TEST(Ops, Activations) {
  ParameterStore store;
  Random random(4);
  Parameter& a = random_parameter(store, "a", {5, 7}, random);
  Parameter& b = random_parameter(store, "b", {5, 7}, random);
  expect_gradients(store, [&](Tape& tape) {
    Var x = as_input(tape, a), y = as_input(tape, b);
    return weigh(tape, add(tape, mul(tape, silu(tape, x), relu(tape, y)), swiglu(tape, y, x)));
  });
}

TEST(Ops, Curves) {
  ParameterStore store;
  Random random(24);
  Parameter& a = random_parameter(store, "a", {5, 7}, random);
  Parameter& b = random_parameter(store, "b", {5, 7}, random);
  expect_gradients(store, [&](Tape& tape) {
    Var x = as_input(tape, a), y = as_input(tape, b);
    Var z = add(tape, mul(tape, sigmoid(tape, x), tanh(tape, y)), mul(tape, exp(tape, y), gelu(tape, x)));
    z = add(tape, z, heavy_tail(tape, y, 1e-4f));
    return weigh(tape, add(tape, z, scale(tape, x, -0.3f)));
  });
}

TEST(Ops, Bias) {
  ParameterStore store;
  Random random(27);
  Parameter& x = random_parameter(store, "x", {5, 7}, random);
  Parameter& bias = random_parameter(store, "bias", {7}, random);
  expect_gradients(store, [&](Tape& tape) {
    Var in = as_input(tape, x);
    return weigh(tape, mul(tape, add_bias(tape, in, bias), in));
  });
}

TEST(Ops, HeadsOfUnitLengthTimesTheirNumbers) {
  ParameterStore store;
  Random random(25);
  Parameter& x = random_parameter(store, "x", {5, 12}, random);
  Parameter& f = random_parameter(store, "f", {5, 3}, random);
  expect_gradients(store, [&](Tape& tape) {
    Var in = as_input(tape, x), factor = as_input(tape, f);
    Var y = tape.folded(l2_norm(tape, tape.folded(in, 4), 1e-6f), 12);
    Var scaled = add(tape, scale_heads(tape, y, factor), scale_heads(tape, in, factor));
    return weigh(tape, mul(tape, dot_heads(tape, scaled, in, 3), factor));
  });
  Tape tape;
  tape.start(false);
  Var y = l2_norm(tape, tape.folded(as_input(tape, x), 4), 1e-24f);
  for (int64_t r = 0; r < y.rows(); ++r) {
    double squares = 0;
    for (int64_t c = 0; c < 4; ++c) squares += double(y.value()[4 * r + c]) * double(y.value()[4 * r + c]);
    EXPECT_NEAR(squares, 1, 1e-6);
  }
}

TEST(Ops, DropoutKeepsItsMaskAndItsMean) {
  ParameterStore store;
  Random random(5);
  Parameter& a = random_parameter(store, "a", {50, 40}, random);
  expect_gradients(store,
                   [&](Tape& tape) { return weigh(tape, dropout(tape, as_input(tape, a), 0.25f, 17)); });
  Tape tape;
  tape.start(false);
  Var ones = tape.make(100, 100, false);
  std::fill_n(ones.value(), ones.size(), 1.0f);
  const double mean = total(dropout(tape, ones, 0.25f, 3)) / double(ones.size());
  EXPECT_NEAR(mean, 1.0, 4 * std::sqrt(0.25 / 0.75 / 1e4));  // four standard deviations
}

TEST(Ops, CausalConvWithItsStates) {
  for (int T : {1, 2, 5}) {
    ParameterStore store;
    Random random(6);
    const int64_t B = 2, C = 5, width = 4;
    Parameter& x = random_parameter(store, "x", {B * T, C + 2}, random);
    Parameter& w = random_parameter(store, "w", {C, width}, random);
    Parameter& bias = random_parameter(store, "bias", {C}, random);
    Parameter& start = random_parameter(store, "state", {B, (width - 1) * C}, random);
    const Chunk chunk{.B = B, .T = T};
    for (bool final_state : {false, true}) {
      expect_gradients(store, [&](Tape& tape) {
        StateVar state{as_input(tape, start), {}};
        Var y = causal_conv_silu(tape, tape.columns(as_input(tape, x), 1, C + 1), w, bias, chunk, state);
        Var loss = weigh(tape, y);
        return final_state ? sum_of(tape, loss, weigh(tape, state.out, 5)) : loss;
      });
    }
  }
}

TEST(Ops, CausalConvWithoutABias) {
  ParameterStore store;
  Random random(26);
  const int64_t B = 2, T = 5, C = 5, width = 4;
  Parameter& x = random_parameter(store, "x", {B * T, C}, random);
  Parameter& w = random_parameter(store, "w", {C, width}, random);
  Parameter& start = random_parameter(store, "state", {B, (width - 1) * C}, random);
  const Chunk chunk{.B = B, .T = T};
  expect_gradients(store, [&](Tape& tape) {
    StateVar state{as_input(tape, start), {}};
    Var y = causal_conv_silu(tape, as_input(tape, x), w, chunk, state);
    return sum_of(tape, weigh(tape, y), weigh(tape, state.out, 5));
  });
}

TEST(Ops, SelectiveScanWithItsStates) {
  for (int T : {1, 3, 66}) {
    ParameterStore store;
    Random random(7);
    const int64_t B = 2, C = T == 3 ? 24 : 3, N = 4;
    Parameter& x = random_parameter(store, "x", {B * T, C}, random);
    Parameter& delta = random_parameter(store, "delta", {B * T, C}, random);
    Parameter& bc = random_parameter(store, "bc", {B * T, 2 * N}, random);
    Parameter& z = random_parameter(store, "z", {B * T, C + 3}, random);
    Parameter& bias = random_parameter(store, "dt_bias", {C}, random);
    Parameter& a_log = random_parameter(store, "a_log", {C, N}, random, 0.5f);
    Parameter& d = random_parameter(store, "d", {C}, random);
    Parameter& start = random_parameter(store, "state", {B, N * C}, random);
    const Chunk chunk{.B = B, .T = T};
    expect_gradients(store, [&](Tape& tape) {
      float* a = tape.arena().floats(N * C);
      kernels::decay_matrix(C, N, a_log.value.f32(), a);
      StateVar state{as_input(tape, start), {}};
      Var both = as_input(tape, bc);
      Var y = selective_scan(tape, as_input(tape, x), as_input(tape, delta), bias, a_log, a,
                             tape.columns(both, 0, N), tape.columns(both, N, 2 * N), d, as_input(tape, z),
                             chunk, state);
      return sum_of(tape, weigh(tape, y), weigh(tape, state.out, 5));
    });
  }
}

TEST(Ops, RotaryAndAttention) {
  for (int T : {1, 4, 19}) {
    ParameterStore store;
    Random random(8);
    const int64_t B = 2, H = 3, dim = 4, capacity = 64;
    Parameter& q = random_parameter(store, "q", {B * T, H * dim}, random);
    Parameter& k = random_parameter(store, "k", {B * T, dim}, random);
    Parameter& v = random_parameter(store, "v", {B * T, dim}, random);
    std::vector<float> keys(size_t(B * capacity * dim)), values(keys.size());
    random.fill_normal(keys.data(), int64_t(keys.size()), 1.0f);
    random.fill_normal(values.data(), int64_t(values.size()), 1.0f);
    const int64_t positions[2] = {7, 3}, filled[2] = {7, 3};
    const Chunk chunk{.B = B, .T = T, .positions = positions};
    for (int64_t window : {5, 64}) {
      expect_gradients(store, [&](Tape& tape) {
        Var queries = rotary(tape, as_input(tape, q), H, chunk, 10000.0f);
        Var own = rotary(tape, as_input(tape, k), 1, chunk, 10000.0f);
        return weigh(tape, multi_query_attention(tape, queries, own, as_input(tape, v), H, keys.data(),
                                                 values.data(), capacity, filled, window, chunk));
      });
    }
  }
}

TEST(Ops, CrossEntropyIgnoresMinusOne) {
  ParameterStore store;
  Random random(9);
  Parameter& logits = random_parameter(store, "logits", {4, 11}, random);
  const std::vector<int32_t> targets = {3, -1, 10, 0};
  expect_gradients(store, [&](Tape& tape) { return cross_entropy(tape, as_input(tape, logits), targets); });
  expect_gradients(
      store, [&](Tape& tape) { return weigh(tape, cross_entropy(tape, as_input(tape, logits), targets)); });
  Tape tape;
  tape.start(false);
  EXPECT_EQ(cross_entropy(tape, as_input(tape, logits), targets).value()[1], 0.0f);
}

TEST(Tape, AWarmStepAllocatesNothingAndRepeatsItself) {
  ParameterStore store;
  Random random(10);
  Parameter& x = random_parameter(store, "x", {64, 256}, random);
  Parameter& w = random_parameter(store, "w", {256, 256}, random, 0.06f);
  Tape tape;
  std::vector<float> first;
  size_t capacity = 0;
  for (int step = 0; step < 4; ++step) {
    tape.start(true);
    Var y = linear(tape, as_input(tape, x), w);
    for (int i = 0; i < 20; ++i) y = linear(tape, y, w);
    tape.backward(y);
    std::vector<float> gradient(w.gradient.f32(), w.gradient.f32() + w.size());
    for (Parameter& p : store.all()) p.gradient_open = false;
    if (step == 0) first = gradient;
    EXPECT_EQ(gradient, first);
    if (step == 2) capacity = tape.arena().capacity();
    if (step == 3) {
      EXPECT_EQ(tape.arena().capacity(), capacity);
    }
  }
}

}  // namespace
}  // namespace brood
