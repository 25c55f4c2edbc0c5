// Traces of complex modes: their equations against finite differences of the scan, in double precision; the kernel
// against those equations; and what they are for, gradients of a whole out of gradients of its chunks.
#include "brood/kernels/complex_traces.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/scan_check.h"
#include "tests/reference/complex_traces.h"

namespace brood::kernels {
namespace {

struct Problem {
  int64_t B, T, C, N;
  Numbers u, A, in, out, D, h, traces;
  Floats u4, A4, in4, out4, D4, h4, traces4;

  Problem(int64_t streams, int64_t steps, int64_t channels, int64_t n, uint64_t seed)
      : B(streams), T(steps), C(channels), N(n) {
    Random random(seed);
    const int64_t modes = N * 2 * C;
    u = draw(random, B * T * C, -1, 1);
    A = draw(random, modes, -0.7, 0.7);  // |A| < 0.99, at any angle
    in = draw(random, modes, -1, 1);
    out = draw(random, modes, -1, 1);
    D = draw(random, C, -1, 1);
    h = draw(random, B * modes, -1, 1);
    traces = draw(random, 2 * B * modes, -1, 1);
    u4 = narrow(u), A4 = narrow(A), in4 = narrow(in), out4 = narrow(out), D4 = narrow(D), h4 = narrow(h);
    traces4 = narrow(traces);
  }
  reference::ComplexScan shape() const { return {B, T, C, N}; }
  ComplexScan scan() const {
    return {B, T, C, N, {u4.data(), C}, A4.data(), in4.data(), out4.data(), D4.data(), h4.data()};
  }
  ComplexScan part(int64_t from, int64_t steps, const float* state) const {
    ComplexScan s = scan();
    s.u.data += from * C;
    s.T = steps;
    s.h_in = state;
    return s;
  }
};

// The state that the reference ends with when a number of A or of the input is another one.
Numbers end_of(const Problem& p, const Numbers& A, const Numbers& in) {
  Numbers h = p.h;
  reference::complex_scan(p.shape(), p.u, A, in, p.out, p.D, h);
  return h;
}

// p and q begin at zero: then they are the derivatives of the last state. What moves with Re z, and i times it with
// Im z, is that of its own mode only.
TEST(ComplexTraces, AreDerivativesOfTheState) {
  Problem p(2, 9, 3, 2, 5);
  p.traces.assign(p.traces.size(), 0.0);
  Numbers h = p.h;
  reference::complex_traces(p.shape(), p.u, p.A, p.in, h, p.traces);
  const int64_t modes = p.N * 2 * p.C;
  for (const bool input : {false, true}) {
    for (int64_t i = 0; i < modes; ++i) {
      Numbers A = p.A, in = p.in;
      double& moved = input ? in[size_t(i)] : A[size_t(i)];
      const double before = moved;
      const auto at = [&](double step) {
        moved = before + step;
        return end_of(p, A, in);
      };
      constexpr double kStep = 2e-4;
      const Numbers a = at(kStep), b = at(-kStep), c = at(2 * kStep), d = at(-2 * kStep);
      const int64_t channel = i % p.C, mode = i / p.C / 2;
      const bool imaginary = i / p.C % 2 == 1;
      for (int64_t j = 0; j < p.B * modes; ++j) {
        const size_t k = size_t(j);
        const double slope = (8 * (a[k] - b[k]) - (c[k] - d[k])) / (12 * kStep);
        const int64_t stream = j / modes, row = j % modes / p.C;
        double expected = 0;
        if (j % p.C == channel && row / 2 == mode) {
          const int64_t re = (2 * stream + (input ? 1 : 0)) * modes + 2 * mode * p.C + channel;
          const double real = p.traces[size_t(re)], imag = p.traces[size_t(re + p.C)];
          expected = row % 2 == 0 ? (imaginary ? -imag : real) : (imaginary ? real : imag);
        }
        ASSERT_NEAR(slope, expected, 1e-10) << (input ? "B " : "A ") << i << " state " << j;
      }
    }
  }
}

TEST(ComplexTraces, AllShapesAreTheReference) {
  for (int64_t T : {1, 2, 3, 4, 17, 40}) {
    for (int64_t C : {1, 3, 8, 16, 21, 300}) {
      for (int64_t N : {1, 2, 5}) {
        SCOPED_TRACE(testing::Message() << "T " << T << " C " << C << " N " << N);
        const Problem p(1 + T % 2, T, C, N, uint64_t(T * 10000 + C * 10 + N));
        Numbers h = p.h, truth = p.traces;
        reference::complex_traces(p.shape(), p.u, p.A, p.in, h, truth);
        // Errors of h come into p once more: sums of up to T steps of T errors, which |A| makes fade.
        const double bound = 8 * kRoundoff * double(4 * T) * largest(truth);
        for_every_target([&] {
          Floats got(p.traces.size(), NAN);
          complex_traces_forward(p.scan(), p.traces4.data(), got.data());
          expect_close("traces", got, truth, [&](size_t) { return bound; });
        });
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

struct Gradients {
  Floats A, in;
};

// Chunk by chunk, each backward by itself.
Gradients in_chunks(const Problem& p, const Floats& dy, int64_t chunk, bool with_traces) {
  const size_t modes = p.A.size();
  Gradients sum{Floats(modes, 0.0f), Floats(modes, 0.0f)};
  Floats state = p.h4, traces(2 * modes, 0.0f), y(size_t(p.T * p.C));
  for (int64_t t = 0; t < p.T; t += chunk) {
    const ComplexScan part = p.part(t, std::min(chunk, p.T - t), state.data());
    Floats kept(size_t(complex_scan_kept_size(part))), next(modes), dh_in(modes, 0.0f), moved(2 * modes);
    complex_scan_forward(part, {y.data(), p.C}, next.data(), kept.data());
    ComplexScanGradients gradients{};
    gradients.A = sum.A.data();
    gradients.input = sum.in.data();
    gradients.h_in = dh_in.data();
    complex_scan_backward(part, kept.data(), {dy.data() + t * p.C, p.C}, nullptr, gradients);
    if (with_traces) complex_traces_backward(part, traces.data(), dh_in.data(), sum.A.data(), sum.in.data());
    complex_traces_forward(part, traces.data(), moved.data());
    traces = moved;
    state = next;
  }
  return sum;
}

TEST(ComplexTraces, GradientsOfChunksAddUpToTheWhole) {
  const Problem p(1, 200, 21, 3, 6);
  Random random(3);
  const Floats dy = narrow(draw(random, p.T * p.C, -1, 1));
  const Gradients whole = in_chunks(p, dy, p.T, false);
  const double most = largest(widen(whole.A), largest(widen(whole.in)));
  const auto off = [&](const Gradients& got) {
    double worst = 0;
    for (size_t i = 0; i < got.A.size(); ++i)
      worst = std::max(
          {worst, double(std::abs(got.A[i] - whole.A[i])), double(std::abs(got.in[i] - whole.in[i]))});
    return worst / most;
  };
  for_every_target([&] {
    for (int64_t chunk : {1, 7, 32}) {
      EXPECT_LT(off(in_chunks(p, dy, chunk, true)), 1e-6) << "chunks of " << chunk;
      EXPECT_GT(off(in_chunks(p, dy, chunk, false)), 1e-2) << "chunks of " << chunk << " must be truncated";
    }
  });
}

TEST(ComplexTraces, AnyCutGivesTheSameBits) {
  const Problem p(1, 70, 300, 5, 7);
  for_every_target([&] {
    Floats whole(p.traces.size());
    complex_traces_forward(p.scan(), p.traces4.data(), whole.data());
    for (int64_t chunk : {1, 2, 7, 64}) {
      Floats state = p.h4, traces = p.traces4, y(size_t(p.T * p.C));
      for (int64_t t = 0; t < p.T; t += chunk) {
        const ComplexScan part = p.part(t, std::min(chunk, p.T - t), state.data());
        complex_traces_forward(part, traces.data(), traces.data());  // in place
        complex_scan_forward(part, {y.data(), p.C}, state.data(), nullptr);
      }
      ASSERT_EQ(traces, whole) << "chunks of " << chunk;
    }
  });
}

TEST(ComplexTraces, ThreadsDoNotChangeABit) {
  const Problem p(3, 40, 600, 16, 8);
  expect_same_for_threads([&] {
    Floats traces(p.traces.size()), both(2 * p.A.size(), 0.0f);
    complex_traces_forward(p.scan(), p.traces4.data(), traces.data());
    complex_traces_backward(p.scan(), traces.data(), p.h4.data(), both.data(), both.data() + p.A.size());
    traces.insert(traces.end(), both.begin(), both.end());
    return traces;
  });
}

}  // namespace
}  // namespace brood::kernels
