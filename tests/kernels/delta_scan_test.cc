// The delta scan against its double-precision reference: values, every gradient by finite differences of the
// reference, and the promises of the header (any cut, any number of threads, every SIMD target).
#include "brood/kernels/delta_scan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tests/kernels/scan_check.h"
#include "tests/reference/delta_scan.h"

namespace brood::kernels {
namespace {

struct Shape {
  int64_t B, T, H, N, P;
  bool w_per_head;
};

enum Input { kQ, kK, kV, kW, kA, kB, kState };
const std::vector<std::string> kNames = {"q", "k", "v", "w", "a", "b", "s_in"};

// Transitions that neither vanish nor explode, some decays negative, some zero.
std::vector<Numbers> draw_inputs(const Shape& s, uint64_t seed) {
  Random random(seed);
  const int64_t rows = s.B * s.T;
  const double unit = 1 / std::sqrt(double(s.N));
  std::vector<Numbers> in = {draw(random, rows * s.H * s.N, -unit, unit),
                             draw(random, rows * s.H * s.N, -1, 1),
                             draw(random, rows * s.H * s.P, -1, 1),
                             draw(random, rows * s.H * (s.w_per_head ? 1 : s.N), -0.3, 0.95),
                             draw(random, rows * s.H * s.N, -unit, unit),
                             draw(random, rows * s.H * s.N, -unit, unit),
                             draw(random, s.B * s.H * s.N * s.P, -1, 1)};
  for (size_t i = 0; i < in[kW].size(); i += 7) in[kW][i] = 0;
  return in;
}

// Everything that forward reads, each in columns of a wider matrix.
struct Problem {
  Shape shape;
  std::vector<WideRows> in;
  Floats state;
  Problem(const Shape& s, const std::vector<Numbers>& inputs) : shape(s), state(narrow(inputs[kState])) {
    for (int i = kQ; i <= kB; ++i) in.emplace_back(inputs[size_t(i)], s.B * s.T, i % 3, i);
  }
  ConstRows rows(int i) const { return {in[size_t(i)].begin(), in[size_t(i)].stride}; }
  DeltaScan scan() const {
    return {shape.B,  shape.T,  shape.H,  shape.N,  shape.P,          rows(kQ),    rows(kK),
            rows(kV), rows(kW), rows(kA), rows(kB), shape.w_per_head, state.data()};
  }
};

// Rows [from, from + steps) of a one-stream scan, from another state.
DeltaScan part_of(DeltaScan s, int64_t from, int64_t steps, const float* state) {
  for (ConstRows* rows : {&s.q, &s.k, &s.v, &s.w, &s.a, &s.b}) rows->data += from * rows->stride;
  s.T = steps;
  s.s_in = state;
  return s;
}

struct Forward {
  Floats y, state, kept;
};

Forward forward(const DeltaScan& s, bool keep) {
  const int64_t width = s.H * s.P;
  Forward out{Floats(size_t(s.B * s.T * width), NAN), Floats(size_t(s.B * s.H * s.N * s.P), NAN),
              Floats(size_t(delta_scan_kept_size(s)), NAN)};
  delta_scan_forward(s, {out.y.data(), width}, out.state.data(), keep ? out.kept.data() : nullptr);
  return out;
}

std::vector<Floats> backward(const DeltaScan& s, const Floats& kept, ConstRows dy, const float* dstate,
                             float before = kBefore) {
  const int64_t rows = s.B * s.T;
  std::vector<WideRows> to;
  for (int i = kQ; i <= kB; ++i) {
    const int64_t cols = i == kV ? s.H * s.P : i == kW && s.w_per_head ? s.H : s.H * s.N;
    to.emplace_back(rows, cols, 2, i, before);
  }
  Floats state(size_t(s.B * s.H * s.N * s.P), before);
  const auto gradient = [&](int i) { return Rows{to[size_t(i)].begin(), to[size_t(i)].stride}; };
  delta_scan_backward(
      s, kept.data(), dy, dstate,
      {gradient(kQ), gradient(kK), gradient(kV), gradient(kW), gradient(kA), gradient(kB), state.data()});
  std::vector<Floats> gradients;
  for (const WideRows& rows_of : to) gradients.push_back(rows_of.values());
  gradients.push_back(state);
  return gradients;
}

ScanCase make_case(const Shape& s, uint64_t seed) {
  ScanCase c;
  c.names = kNames;
  c.inputs = draw_inputs(s, seed);
  c.reference = [s](const std::vector<Numbers>& in) {
    ScanValues values{{}, in[kState]};
    values.y = reference::delta_scan({s.B, s.T, s.H, s.N, s.P}, in[kQ], in[kK], in[kV], in[kW], in[kA],
                                     in[kB], values.state);
    return values;
  };
  c.kernel = [s, inputs = c.inputs](const Numbers& dy, const Numbers& dstate) {
    const Problem p(s, inputs);
    const Forward out = forward(p.scan(), true);
    const WideRows slopes(dy, s.B * s.T, 1, 2);
    const Floats state = narrow(dstate);
    return ScanRun{out.y, out.state,
                   backward(p.scan(), out.kept, {slopes.begin(), slopes.stride},
                            state.empty() ? nullptr : state.data())};
  };
  // Errors of a step fade with the decay, and each is of sums over keys; gradients sum over values, too.
  c.terms = double(std::min<int64_t>(s.T, 32) + s.N + s.P);
  return c;
}

TEST(DeltaScan, ValuesOfAllSmallShapes) {
  for (int64_t T : {1, 2, 3, 16, 17, 33}) {
    for (int64_t N : {1, 2, 3, 5, 8, 16, 17}) {
      for (int64_t P : {1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 33, 64, 71}) {
        SCOPED_TRACE(testing::Message() << "T " << T << " N " << N << " P " << P);
        const Shape s{1 + T % 2, T, 1 + N % 2, N, P, (T + N + P) % 3 == 0};
        expect_values(make_case(s, uint64_t(T * 10000 + N * 100 + P)));
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(DeltaScan, EveryGradientOfSmallShapes) {
  for (int64_t T : {1, 2, 4}) {
    for (int64_t N : {1, 2, 3, 5}) {
      for (int64_t P : {1, 2, 3, 5}) {
        for (bool with_state : {false, true}) {
          SCOPED_TRACE(testing::Message() << "T " << T << " N " << N << " P " << P);
          const Shape s{1 + (T + N) % 2, T, 1 + (N + P) % 2, N, P, (T + N + P) % 2 == 0};
          expect_every_gradient(make_case(s, uint64_t(T * 100 + N * 10 + P)), with_state);
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(DeltaScan, LargerShapes) {
  const Shape shapes[] = {{1, 16, 2, 16, 16, false}, {1, 17, 1, 21, 5, true},  {2, 33, 2, 32, 64, false},
                          {1, 70, 1, 64, 64, true},  {3, 5, 2, 9, 133, false}, {1, 40, 1, 67, 48, true},
                          {1, 19, 3, 64, 20, false}, {2, 1, 2, 48, 65, true},  {1, 50, 1, 130, 17, false}};
  for (const Shape& s : shapes) {
    SCOPED_TRACE(testing::Message() << "T " << s.T << " N " << s.N << " P " << s.P);
    const ScanCase c = make_case(s, uint64_t(s.T + s.N + s.P));
    expect_values(c);
    expect_gradients_along_directions(c, true);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(DeltaScan, AnyCutGivesTheSameBits) {
  for (int64_t P : {21, 64, 96}) {
    const Shape s{1, 70, 2, 19, P, false};
    const Problem p(s, draw_inputs(s, 5));
    for_every_target([&] {
      const Forward whole = forward(p.scan(), true);
      for (int64_t chunk : {1, 2, 7, 16, 64}) {
        Floats y(whole.y.size()), state = p.state;
        for (int64_t t = 0; t < s.T; t += chunk) {
          const DeltaScan part = part_of(p.scan(), t, std::min(chunk, s.T - t), state.data());
          delta_scan_forward(part, {y.data() + t * s.H * P, s.H * P}, state.data(), nullptr);  // in place
        }
        ASSERT_EQ(y, whole.y) << "chunks of " << chunk;
        ASSERT_EQ(state, whole.state) << "chunks of " << chunk;
      }
    });
  }
}

// Backward through two chunks, handing the state's gradient over, is backward through the whole: to the bit
// when the cut is where forward keeps a state.
TEST(DeltaScan, StateGradientJoinsChunks) {
  const Shape s{1, 50, 2, 24, 40, false};
  const Problem p(s, draw_inputs(s, 11));
  Random random(2);
  const int64_t width = s.H * s.P;
  const Floats dy = narrow(draw(random, s.T * width, -1, 1));
  const Floats dstate = narrow(draw(random, s.H * s.N * s.P, -1, 1));
  const std::vector<Floats> whole =
      backward(p.scan(), forward(p.scan(), true).kept, {dy.data(), width}, dstate.data(), 0);
  for (int64_t cut : {16, 23, 32}) {
    const DeltaScan head = part_of(p.scan(), 0, cut, p.state.data());
    const Forward first = forward(head, true);
    const DeltaScan tail = part_of(p.scan(), cut, s.T - cut, first.state.data());
    const std::vector<Floats> later =
        backward(tail, forward(tail, true).kept, {dy.data() + cut * width, width}, dstate.data(), 0);
    std::vector<Floats> joined = backward(head, first.kept, {dy.data(), width}, later.back().data(), 0);
    for (size_t i = 0; i < kState; ++i) joined[i].insert(joined[i].end(), later[i].begin(), later[i].end());
    for (size_t i = 0; i <= kState; ++i) {
      if (cut % kDeltaCheckpoint == 0) {
        ASSERT_EQ(joined[i], whole[i]) << kNames[i];
      }
      const double bound = 8 * kRoundoff * 100 * largest(widen(whole[i]));
      expect_close(kNames[i], joined[i], widen(whole[i]), [&](size_t) { return bound; });
    }
  }
}

TEST(DeltaScan, MissingGradientsAreNotWritten) {
  const Shape s{1, 20, 2, 8, 12, true};
  const Problem p(s, draw_inputs(s, 17));
  const Floats dy(size_t(s.T * s.H * s.P), 1.0f);
  const ConstRows slopes{dy.data(), s.H * s.P};
  const Forward out = forward(p.scan(), true);
  const std::vector<Floats> all = backward(p.scan(), out.kept, slopes, nullptr);
  Floats dv(dy.size(), kBefore);
  DeltaScanGradients only{};
  only.v = {dv.data(), s.H * s.P};
  delta_scan_backward(p.scan(), out.kept.data(), slopes, nullptr, only);
  EXPECT_EQ(dv, all[kV]);
}

// One memory for two inputs, as where b = k: it gets the sum of both gradients.
TEST(DeltaScan, SharedInputsGetTheSum) {
  const Shape s{1, 20, 2, 8, 12, true};
  std::vector<Numbers> inputs = draw_inputs(s, 19);
  inputs[kB] = inputs[kK];
  const Problem p(s, inputs);
  const Floats dy(size_t(s.T * s.H * s.P), 1.0f);
  const ConstRows slopes{dy.data(), s.H * s.P};
  const Forward out = forward(p.scan(), true);
  const std::vector<Floats> apart = backward(p.scan(), out.kept, slopes, nullptr);
  Floats both(inputs[kK].size(), 0.0f);
  DeltaScanGradients shared{};
  shared.k = shared.b = {both.data(), s.H * s.N};
  delta_scan_backward(p.scan(), out.kept.data(), slopes, nullptr, shared);
  for (size_t i = 0; i < both.size(); ++i)
    ASSERT_NEAR(both[i], apart[kK][i] + apart[kB][i] - 2 * kBefore, 4 * 0x1p-23 * (1 + std::abs(both[i])));
}

// A scan of numbers that are none leaves nothing behind for the next one, whose sizes fill no whole vectors.
TEST(DeltaScan, NothingIsLeftOfADivergedScan) {
  const auto run = [](const Shape& s, float poison) {
    std::vector<Numbers> inputs = draw_inputs(s, 23);
    for (Numbers& input : inputs)
      for (double& x : input) x *= double(poison);
    const Problem p(s, inputs);
    const Floats dy(size_t(s.T * s.H * s.P), poison);
    return backward(p.scan(), forward(p.scan(), true).kept, {dy.data(), s.H * s.P}, nullptr);
  };
  for (int64_t P : {5, 21}) {
    const Shape small{1, 18, 1, 19, P, false}, large{1, 18, 1, 48, 64, false};
    const std::vector<Floats> before = run(small, 1);
    run(large, NAN);
    EXPECT_EQ(run(small, 1), before);
  }
}

TEST(DeltaScan, ThreadsDoNotChangeABit) {
  for (bool w_per_head : {false, true}) {
    const Shape s{2, 40, 5, 64, 40, w_per_head};
    const Problem p(s, draw_inputs(s, 13));
    Random random(2);
    const Floats dy = narrow(draw(random, s.B * s.T * s.H * s.P, -1, 1));
    expect_same_for_threads([&] {
      const Forward out = forward(p.scan(), true);
      return everything_of(out, backward(p.scan(), out.kept, {dy.data(), s.H * s.P}, out.state.data()));
    });
  }
}

}  // namespace
}  // namespace brood::kernels
