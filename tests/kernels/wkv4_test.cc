// RWKV-4's average against its definition in double precision: values, every gradient by finite differences,
// and the promises of the header (cleared states, keys of any size, any cut, any number of threads, every
// SIMD target).
#include "brood/kernels/wkv4.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/scan_check.h"
#include "tests/reference/wkv4.h"

namespace brood::kernels {
namespace {

struct Shape {
  int64_t B, T, C;
};

enum Input { kK, kV, kW, kU, kState };
const std::vector<std::string> kNames = {"k", "v", "log_w", "u", "s_in"};

std::vector<Numbers> draw_inputs(const Shape& s, uint64_t seed) {
  Random random(seed);
  Numbers state;
  for (int64_t b = 0; b < s.B; ++b) {
    const Numbers rows[] = {draw(random, s.C, -1, 1), draw(random, s.C, 0.5, 2), draw(random, s.C, -1, 1)};
    for (const Numbers& row : rows) state.insert(state.end(), row.begin(), row.end());
  }
  return {draw(random, s.B * s.T * s.C, -2, 2), draw(random, s.B * s.T * s.C, -1, 1),
          draw(random, s.C, -3, 0.7), draw(random, s.C, -1, 1), state};
}

struct Problem {
  Shape shape;
  WideRows k, v;
  Floats w, u, state;
  Problem(const Shape& s, const std::vector<Numbers>& in)
      : shape(s),
        k(in[kK], s.B * s.T, 3, 2),
        v(in[kV], s.B * s.T, 0, 1),
        w(narrow(in[kW])),
        u(narrow(in[kU])),
        state(narrow(in[kState])) {}
  Wkv4 wkv() const {
    return {shape.B,  shape.T,  shape.C,     {k.begin(), k.stride}, {v.begin(), v.stride},
            w.data(), u.data(), state.data()};
  }
};

// Rows [from, from + steps) of one stream, from another state.
Wkv4 part_of(Wkv4 s, int64_t from, int64_t steps, const float* state) {
  s.k.data += from * s.k.stride;
  s.v.data += from * s.v.stride;
  s.T = steps;
  s.s_in = state;
  return s;
}

struct Forward {
  Floats y, state, kept;
};

Forward forward(const Wkv4& s, bool keep) {
  Forward out{Floats(size_t(s.B * s.T * s.C), NAN), Floats(size_t(s.B * 3 * s.C), NAN),
              Floats(size_t(wkv4_kept_size(s)), NAN)};
  wkv4_forward(s, {out.y.data(), s.C}, out.state.data(), keep ? out.kept.data() : nullptr);
  return out;
}

std::vector<Floats> backward(const Wkv4& s, const Floats& kept, ConstRows dy, const float* dstate,
                             float before = kBefore) {
  WideRows k(s.B * s.T, s.C, 1, 4, before), v(s.B * s.T, s.C, 2, 0, before);
  Floats w(size_t(s.C), before), u = w, state(size_t(s.B * 3 * s.C), before);
  wkv4_backward(s, kept.data(), dy, dstate,
                {{k.begin(), k.stride}, {v.begin(), v.stride}, w.data(), u.data(), state.data()});
  return {k.values(), v.values(), w, u, state};
}

// The sums that a state stands for, [B][2][C].
Floats sums_of(const Shape& s, const Floats& state) {
  Floats sums;
  for (int64_t i = 0; i < s.B * 2 * s.C; ++i) {
    const int64_t at = i / (2 * s.C) * 3 * s.C, c = i % s.C;
    sums.push_back(
        float(std::exp(double(state[size_t(at + 2 * s.C + c)])) * double(state[size_t(at + i % (2 * s.C))])));
  }
  return sums;
}

// The gradient of a state from that of its sums; p's part must not be read.
Floats gradient_of_state(const Shape& s, const Floats& state, const Numbers& dsums) {
  Floats gradient(state.size(), NAN);
  for (int64_t i = 0; i < s.B * 2 * s.C; ++i) {
    const int64_t at = i / (2 * s.C) * 3 * s.C, c = i % s.C;
    gradient[size_t(at + i % (2 * s.C))] =
        float(std::exp(double(state[size_t(at + 2 * s.C + c)])) * dsums[size_t(i)]);
  }
  return gradient;
}

ScanCase make_case(const Shape& s, uint64_t seed) {
  ScanCase c;
  c.names = kNames;
  c.inputs = draw_inputs(s, seed);
  c.reference = [s](const std::vector<Numbers>& in) {
    ScanValues values;
    values.y = reference::wkv4({s.B, s.T, s.C}, in[kK], in[kV], in[kW], in[kU], in[kState], values.state);
    return values;
  };
  c.kernel = [s, inputs = c.inputs](const Numbers& dy, const Numbers& dsums) {
    const Problem p(s, inputs);
    const Forward out = forward(p.wkv(), true);
    const WideRows slopes(dy, s.B * s.T, 1, 2);
    const Floats dstate = dsums.empty() ? Floats() : gradient_of_state(s, out.state, dsums);
    return ScanRun{out.y, sums_of(s, out.state),
                   backward(p.wkv(), out.kept, {slopes.begin(), slopes.stride},
                            dstate.empty() ? nullptr : dstate.data())};
  };
  // A step adds the errors of two exponentials, and of the exponent p, up to 4 in size.
  c.terms = 4 * double(s.B * s.T + 4);
  return c;
}

TEST(Wkv4, ValuesOfAllSmallShapes) {
  for (int64_t T : {1, 2, 3, 16, 17, 33}) {
    for (int64_t C : {1, 2, 3, 5, 8, 15, 16, 17, 33, 40}) {
      SCOPED_TRACE(testing::Message() << "T " << T << " C " << C);
      expect_values(make_case({1 + T % 2, T, C}, uint64_t(T * 100 + C)));
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(Wkv4, EveryGradientOfSmallShapes) {
  for (int64_t T : {1, 2, 3, 5}) {
    for (int64_t C : {1, 2, 5}) {
      for (bool with_state : {false, true}) {
        SCOPED_TRACE(testing::Message() << "T " << T << " C " << C);
        expect_every_gradient(make_case({1 + (T + C) % 2, T, C}, uint64_t(T * 10 + C)), with_state);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(Wkv4, LargerShapes) {
  const Shape shapes[] = {{1, 16, 16}, {1, 17, 21}, {2, 33, 32}, {1, 70, 67}, {3, 5, 133}, {1, 200, 40}};
  for (const Shape& s : shapes) {
    SCOPED_TRACE(testing::Message() << "B " << s.B << " T " << s.T << " C " << s.C);
    const ScanCase c = make_case(s, uint64_t(s.T + s.C));
    expect_values(c);
    expect_gradients_along_directions(c, true);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Keys whose exponentials no float holds, from a cleared state: y stays an average, and the gradients
// numbers.
TEST(Wkv4, KeysOfAnySizeFromAClearedState) {
  const Shape s{1, 40, 35};
  for (double size : {5.0, 90.0, 300.0}) {
    std::vector<Numbers> in = draw_inputs(s, 31);
    for (double& k : in[kK]) k = double(float(k * size / 2));
    for (size_t c = 0; c < size_t(s.C); c += 2) in[kK][c] = -size;  // a first key far below 0
    in[kState].assign(in[kState].size(), 0.0);
    Numbers sums;
    const Numbers truth = reference::wkv4({s.B, s.T, s.C}, in[kK], in[kV], in[kW], in[kU], in[kState], sums);
    const Problem p(s, in);
    const Floats dy(size_t(s.T * s.C), 1.0f);
    for_every_target([&] {
      const Forward out = forward(p.wkv(), true);
      // The exponents, up to `size`, are rounded at each step.
      expect_close("y", out.y, truth, [&](size_t) { return kRoundoff * 8 * double(s.T) * (size + 1); });
      for (const Floats& gradient : backward(p.wkv(), out.kept, {dy.data(), s.C}, nullptr))
        for (float g : gradient) ASSERT_TRUE(std::isfinite(g));
    });
  }
}

// What p holds does not matter where nothing has been seen.
TEST(Wkv4, AnEmptyStateHasNoScale) {
  const Shape s{1, 9, 20};
  std::vector<Numbers> in = draw_inputs(s, 37);
  in[kState].assign(in[kState].size(), 0.0);
  const Problem cleared(s, in);
  std::fill(in[kState].end() - s.C, in[kState].end(), -1e38);
  const Problem as_published(s, in);
  EXPECT_EQ(forward(cleared.wkv(), false).y, forward(as_published.wkv(), false).y);
  EXPECT_EQ(forward(cleared.wkv(), false).state, forward(as_published.wkv(), false).state);
}

TEST(Wkv4, AnyCutGivesTheSameBits) {
  const Shape s{1, 70, 37};
  const Problem p(s, draw_inputs(s, 5));
  for_every_target([&] {
    const Forward whole = forward(p.wkv(), true);
    for (int64_t chunk : {1, 2, 7, 16, 64}) {
      Floats y(whole.y.size()), state = p.state;
      for (int64_t t = 0; t < s.T; t += chunk) {
        const Wkv4 part = part_of(p.wkv(), t, std::min(chunk, s.T - t), state.data());
        wkv4_forward(part, {y.data() + t * s.C, s.C}, state.data(), nullptr);  // in place
      }
      ASSERT_EQ(y, whole.y) << "chunks of " << chunk;
      ASSERT_EQ(state, whole.state) << "chunks of " << chunk;
    }
  });
}

// Backward through two chunks, handing the state's gradient over, is backward through the whole: to the bit
// for k and v when the cut is where forward keeps a state.
TEST(Wkv4, StateGradientJoinsChunks) {
  const Shape s{1, 50, 24};
  const Problem p(s, draw_inputs(s, 11));
  Random random(2);
  const Floats dy = narrow(draw(random, s.T * s.C, -1, 1)), dstate = narrow(draw(random, 3 * s.C, -1, 1));
  const std::vector<Floats> whole =
      backward(p.wkv(), forward(p.wkv(), true).kept, {dy.data(), s.C}, dstate.data(), 0);
  for (int64_t cut : {16, 23, 32}) {
    const Wkv4 head = part_of(p.wkv(), 0, cut, p.state.data());
    const Forward first = forward(head, true);
    const Wkv4 tail = part_of(p.wkv(), cut, s.T - cut, first.state.data());
    const std::vector<Floats> later =
        backward(tail, forward(tail, true).kept, {dy.data() + cut * s.C, s.C}, dstate.data(), 0);
    std::vector<Floats> joined = backward(head, first.kept, {dy.data(), s.C}, later.back().data(), 0);
    for (size_t i : {kK, kV}) {
      joined[i].insert(joined[i].end(), later[i].begin(), later[i].end());
      if (cut % kWkv4Checkpoint == 0) {
        ASSERT_EQ(joined[i], whole[i]) << kNames[i];
      }
    }
    for (size_t i : {kW, kU})
      for (size_t j = 0; j < joined[i].size(); ++j) joined[i][j] += later[i][j];
    for (size_t i = 0; i <= kState; ++i) {
      const double bound = 8 * kRoundoff * double(s.T) * largest(widen(whole[i]));
      expect_close(kNames[i], joined[i], widen(whole[i]), [&](size_t) { return bound; });
    }
  }
}

TEST(Wkv4, MissingGradientsAreNotWritten) {
  const Shape s{2, 20, 12};
  const Problem p(s, draw_inputs(s, 17));
  const Floats dy(size_t(s.B * s.T * s.C), 1.0f);
  const Forward out = forward(p.wkv(), true);
  const std::vector<Floats> all = backward(p.wkv(), out.kept, {dy.data(), s.C}, nullptr);
  Floats dw(all[kW].size(), kBefore);
  Wkv4Gradients only{};
  only.log_w = dw.data();
  wkv4_backward(p.wkv(), out.kept.data(), {dy.data(), s.C}, nullptr, only);
  EXPECT_EQ(dw, all[kW]);
}

TEST(Wkv4, ThreadsDoNotChangeABit) {
  const Shape s{3, 200, 100};
  const Problem p(s, draw_inputs(s, 13));
  Random random(2);
  const Floats dy = narrow(draw(random, s.B * s.T * s.C, -1, 1));
  expect_same_for_threads([&] {
    const Forward out = forward(p.wkv(), true);
    return everything_of(out, backward(p.wkv(), out.kept, {dy.data(), s.C}, out.state.data()));
  });
}

}  // namespace
}  // namespace brood::kernels
