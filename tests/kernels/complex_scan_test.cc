// The scan of complex modes against its double-precision reference: values, every gradient by finite
// differences of the reference, and the promises of the header (any cut, any number of threads, every SIMD
// target).
#include "brood/kernels/complex_scan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/scan_check.h"
#include "tests/reference/complex_scan.h"

namespace brood::kernels {
namespace {

struct Shape {
  int64_t B, T, C, N;
};

enum Input { kU, kA, kIn, kOut, kD, kState };
const std::vector<std::string> kNames = {"u", "A", "input", "output", "D", "h_in"};

// |A| < 0.99, at any angle.
std::vector<Numbers> draw_inputs(const Shape& s, uint64_t seed) {
  Random random(seed);
  const int64_t modes = s.N * 2 * s.C;
  return {
      draw(random, s.B * s.T * s.C, -1, 1), draw(random, modes, -0.7, 0.7), draw(random, modes, -1, 1),
      draw(random, modes, -1, 1),           draw(random, s.C, -1, 1),       draw(random, s.B * modes, -1, 1)};
}

struct Problem {
  Shape shape;
  WideRows u;
  std::vector<Floats> in;
  Problem(const Shape& s, const std::vector<Numbers>& inputs) : shape(s), u(inputs[kU], s.B * s.T, 3, 2) {
    for (const Numbers& x : inputs) in.push_back(narrow(x));
  }
  ComplexScan scan() const {
    return {shape.B,       shape.T,        shape.C,         shape.N,       {u.begin(), u.stride},
            in[kA].data(), in[kIn].data(), in[kOut].data(), in[kD].data(), in[kState].data()};
  }
};

// Rows [from, from + steps) of a one-stream scan, from another state.
ComplexScan part_of(ComplexScan s, int64_t from, int64_t steps, const float* state) {
  s.u.data += from * s.u.stride;
  s.T = steps;
  s.h_in = state;
  return s;
}

struct Forward {
  Floats y, state, kept;
};

Forward forward(const ComplexScan& s, bool keep) {
  Forward out{Floats(size_t(s.B * s.T * s.C), NAN), Floats(size_t(s.B * s.N * 2 * s.C), NAN),
              Floats(size_t(complex_scan_kept_size(s)), NAN)};
  complex_scan_forward(s, {out.y.data(), s.C}, out.state.data(), keep ? out.kept.data() : nullptr);
  return out;
}

std::vector<Floats> backward(const ComplexScan& s, const Floats& kept, ConstRows dy, const float* dstate,
                             float before = kBefore) {
  WideRows u(s.B * s.T, s.C, 1, 4, before);
  const Floats modes(size_t(s.N * 2 * s.C), before);
  Floats A = modes, input = modes, output = modes, D(size_t(s.C), before),
         state(size_t(s.B * s.N * 2 * s.C), before);
  complex_scan_backward(
      s, kept.data(), dy, dstate,
      {{u.begin(), u.stride}, A.data(), input.data(), output.data(), D.data(), state.data()});
  return {u.values(), A, input, output, D, state};
}

ScanCase make_case(const Shape& s, uint64_t seed) {
  ScanCase c;
  c.names = kNames;
  c.inputs = draw_inputs(s, seed);
  c.reference = [s](const std::vector<Numbers>& in) {
    ScanValues values{{}, in[kState]};
    values.y = reference::complex_scan({s.B, s.T, s.C, s.N}, in[kU], in[kA], in[kIn], in[kOut], in[kD],
                                       values.state);
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
  // Errors of a step fade with |A|; y sums modes, gradients sum steps and streams.
  c.terms = double(s.B * s.T + 2 * s.N);
  return c;
}

TEST(ComplexScan, ValuesOfAllSmallShapes) {
  for (int64_t T : {1, 2, 3, 16, 17, 33}) {
    for (int64_t C : {1, 2, 3, 5, 8, 15, 16, 17, 33, 40}) {
      for (int64_t N : {1, 2, 3, 4, 7}) {
        SCOPED_TRACE(testing::Message() << "T " << T << " C " << C << " N " << N);
        expect_values(make_case({1 + T % 2, T, C, N}, uint64_t(T * 10000 + C * 100 + N)));
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(ComplexScan, EveryGradientOfSmallShapes) {
  for (int64_t T : {1, 2, 4}) {
    for (int64_t C : {1, 2, 5}) {
      for (int64_t N : {1, 2, 3}) {
        for (bool with_state : {false, true}) {
          SCOPED_TRACE(testing::Message() << "T " << T << " C " << C << " N " << N);
          expect_every_gradient(make_case({1 + (T + C) % 2, T, C, N}, uint64_t(T * 100 + C * 10 + N)),
                                with_state);
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(ComplexScan, LargerShapes) {
  const Shape shapes[] = {{1, 16, 16, 16}, {1, 17, 21, 5}, {2, 33, 32, 3}, {1, 70, 67, 32},
                          {3, 5, 133, 9},  {2, 3, 261, 4}, {2, 1, 48, 16}, {1, 130, 36, 7}};
  for (const Shape& s : shapes) {
    SCOPED_TRACE(testing::Message() << "B " << s.B << " T " << s.T << " C " << s.C << " N " << s.N);
    const ScanCase c = make_case(s, uint64_t(s.T + s.C + s.N));
    expect_values(c);
    expect_gradients_along_directions(c, true);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// y = u ⋆ K + D u with K_l = 2 Re Σ_n C_n B_n A_n^l: the convolution that S4D is trained as.
TEST(ComplexScan, IsAConvolution) {
  const Shape s{1, 40, 6, 4};
  std::vector<Numbers> in = draw_inputs(s, 21);
  in[kState].assign(in[kState].size(), 0.0);
  Numbers expected(in[kU].size());
  for (int64_t c = 0; c < s.C; ++c) {
    for (int64_t t = 0; t < s.T; ++t) {
      double& y = expected[size_t(t * s.C + c)];
      y = in[kD][size_t(c)] * in[kU][size_t(t * s.C + c)];
      for (int64_t n = 0; n < s.N; ++n) {
        const auto mode = [&](Input i) {
          const size_t re = size_t(2 * n * s.C + c);
          return std::complex<double>(in[i][re], in[i][re + size_t(s.C)]);
        };
        std::complex<double> kernel = 2.0 * mode(kOut) * mode(kIn);
        for (int64_t l = 0; l <= t; ++l) {
          y += kernel.real() * in[kU][size_t((t - l) * s.C + c)];
          kernel *= mode(kA);
        }
      }
    }
  }
  const Problem p(s, in);
  const double bound = 8 * kRoundoff * double(s.T + 2 * s.N) * largest(expected);
  for_every_target(
      [&] { expect_close("y", forward(p.scan(), false).y, expected, [&](size_t) { return bound; }); });
}

TEST(ComplexScan, AnyCutGivesTheSameBits) {
  const Shape s{1, 70, 300, 5};
  const Problem p(s, draw_inputs(s, 5));
  for_every_target([&] {
    const Forward whole = forward(p.scan(), true);
    for (int64_t chunk : {1, 2, 7, 16, 64}) {
      Floats y(whole.y.size()), state = p.in[kState];
      for (int64_t t = 0; t < s.T; t += chunk) {
        const ComplexScan part = part_of(p.scan(), t, std::min(chunk, s.T - t), state.data());
        complex_scan_forward(part, {y.data() + t * s.C, s.C}, state.data(), nullptr);  // in place
      }
      ASSERT_EQ(y, whole.y) << "chunks of " << chunk;
      ASSERT_EQ(state, whole.state) << "chunks of " << chunk;
    }
  });
}

// Backward through two chunks, handing the state's gradient over, is backward through the whole.
TEST(ComplexScan, StateGradientJoinsChunks) {
  const Shape s{1, 50, 24, 6};
  const Problem p(s, draw_inputs(s, 11));
  Random random(2);
  const Floats dy = narrow(draw(random, s.T * s.C, -1, 1));
  const Floats dstate = narrow(draw(random, s.N * 2 * s.C, -1, 1));
  const std::vector<Floats> whole =
      backward(p.scan(), forward(p.scan(), true).kept, {dy.data(), s.C}, dstate.data(), 0);
  for (int64_t cut : {16, 23}) {
    const ComplexScan head = part_of(p.scan(), 0, cut, p.in[kState].data());
    const Forward first = forward(head, true);
    const ComplexScan tail = part_of(p.scan(), cut, s.T - cut, first.state.data());
    const std::vector<Floats> later =
        backward(tail, forward(tail, true).kept, {dy.data() + cut * s.C, s.C}, dstate.data(), 0);
    std::vector<Floats> joined = backward(head, first.kept, {dy.data(), s.C}, later.back().data(), 0);
    joined[kU].insert(joined[kU].end(), later[kU].begin(), later[kU].end());
    for (size_t i = kA; i <= kD; ++i)
      for (size_t j = 0; j < joined[i].size(); ++j) joined[i][j] += later[i][j];
    for (size_t i = 0; i <= kState; ++i) {
      const double bound = 8 * kRoundoff * double(s.T) * largest(widen(whole[i]));
      expect_close(kNames[i], joined[i], widen(whole[i]), [&](size_t) { return bound; });
    }
  }
}

TEST(ComplexScan, MissingGradientsAreNotWritten) {
  const Shape s{2, 20, 12, 3};
  const Problem p(s, draw_inputs(s, 17));
  const Floats dy(size_t(s.B * s.T * s.C), 1.0f);
  const Forward out = forward(p.scan(), true);
  const std::vector<Floats> all = backward(p.scan(), out.kept, {dy.data(), s.C}, nullptr);
  Floats dA(all[kA].size(), kBefore);
  ComplexScanGradients only{};
  only.A = dA.data();
  complex_scan_backward(p.scan(), out.kept.data(), {dy.data(), s.C}, nullptr, only);
  EXPECT_EQ(dA, all[kA]);
}

TEST(ComplexScan, ThreadsDoNotChangeABit) {
  const Shape s{3, 40, 100, 16};
  const Problem p(s, draw_inputs(s, 13));
  Random random(2);
  const Floats dy = narrow(draw(random, s.B * s.T * s.C, -1, 1));
  expect_same_for_threads([&] {
    const Forward out = forward(p.scan(), true);
    return everything_of(out, backward(p.scan(), out.kept, {dy.data(), s.C}, out.state.data()));
  });
}

}  // namespace
}  // namespace brood::kernels
