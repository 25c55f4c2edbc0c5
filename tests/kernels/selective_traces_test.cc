// Traces of the selective scan: their equations against finite differences of the scan, in double precision; the kernel
// against those equations; and the promises of the header.
#include "brood/kernels/selective_traces.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/scan_check.h"
#include "tests/reference/selective_traces.h"

namespace brood::kernels {
namespace {

struct Problem {
  reference::SelectiveScan scan;
  int64_t rank;
  Numbers low, traces;
  Floats x, delta, bias, A, input, output, D, h, low4, traces4;

  Problem(int64_t B, int64_t T, int64_t C, int64_t N, int64_t r, uint64_t seed) : rank(r) {
    Random random(seed);
    scan = {B, T, C, N, false, {}, {}, {}, {}, {}, {}, {}, {}, {}};
    scan.x = draw(random, B * T * C, -1, 1);
    scan.delta = draw(random, B * T * C, -2, 1);
    scan.delta_bias = draw(random, C, -1, 1);
    scan.A = draw(random, N * C, -3, -0.05);
    scan.input = draw(random, B * T * N, -1, 1);
    scan.output = draw(random, B * T * N, -1, 1);
    scan.D = draw(random, C, -1, 1);
    scan.h = draw(random, B * N * C, -1, 1);
    low = draw(random, B * T * rank, -1, 1);
    traces = draw(random, B * (2 + rank) * N * C, -1, 1);
    x = narrow(scan.x), delta = narrow(scan.delta), bias = narrow(scan.delta_bias), A = narrow(scan.A);
    input = narrow(scan.input), output = narrow(scan.output), D = narrow(scan.D), h = narrow(scan.h);
    low4 = narrow(low), traces4 = narrow(traces);
  }
  // Steps [from, from + steps) of one stream, or of all when these are all of its steps.
  SelectiveScan part(int64_t from, int64_t steps, const float* state) const {
    const int64_t C = scan.C, N = scan.N;
    SelectiveScan s{};
    s.B = scan.B, s.T = steps, s.C = C, s.N = N, s.bc_stride = N;
    s.x = x.data() + from * C, s.delta = delta.data() + from * C, s.delta_bias = bias.data(), s.A = A.data();
    s.input = input.data() + from * N, s.output = output.data() + from * N, s.D = D.data(), s.h_in = state;
    return s;
  }
  SelectiveScan whole() const { return part(0, scan.T, h.data()); }
  LowRank weight(int64_t from = 0) const { return {rank, {low4.data() + from * rank, rank}}; }
};

// Traces begin at zero: then they are the derivatives of the last state.
TEST(SelectiveTraces, AreDerivativesOfTheState) {
  Problem p(2, 7, 3, 2, 2, 5);
  p.traces.assign(p.traces.size(), 0.0);
  reference::selective_traces(p.scan, p.rank, p.low, p.traces);
  const auto& s = p.scan;
  // Moves parameter k (0: A of state `of`, 1: bias, 2 + j: column j of W) of channel c.
  const auto end = [&](int64_t k, int64_t of, int64_t c, double step) {
    reference::SelectiveScan moved = s;
    if (k == 0) moved.A[size_t(of * s.C + c)] += step;
    for (int64_t row = 0; k > 0 && row < s.B * s.T; ++row)
      moved.delta[size_t(row * s.C + c)] += step * (k == 1 ? 1 : p.low[size_t(row * p.rank + k - 2)]);
    return reference::selective_scan(moved).h;
  };
  constexpr double kStep = 2e-4;
  for (int64_t k = 0; k < 2 + p.rank; ++k) {
    for (int64_t c = 0; c < s.C; ++c) {
      for (int64_t of = 0; of < (k == 0 ? s.N : 1); ++of) {
        const Numbers a = end(k, of, c, kStep), b = end(k, of, c, -kStep), a2 = end(k, of, c, 2 * kStep),
                      b2 = end(k, of, c, -2 * kStep);
        for (int64_t j = 0; j < s.B * s.N * s.C; ++j) {
          const size_t i = size_t(j);
          const double slope = (8 * (a[i] - b[i]) - (a2[i] - b2[i])) / (12 * kStep);
          const int64_t stream = j / (s.N * s.C), n = j / s.C % s.N;
          const bool own = j % s.C == c && (k > 0 || n == of);
          const int64_t trace = ((stream * (2 + p.rank) + k) * s.N + n) * s.C + c;
          ASSERT_NEAR(slope, own ? p.traces[size_t(trace)] : 0.0, 1e-10)
              << "k " << k << " c " << c << " h " << j;
        }
      }
    }
  }
}

TEST(SelectiveTraces, AllShapesAreTheReference) {
  for (int64_t T : {1, 2, 15, 16, 17, 40}) {
    for (int64_t C : {1, 3, 16, 21, 67}) {
      for (int64_t N : {1, 2, 5}) {
        const int64_t rank = (T + C + N) % 7;
        SCOPED_TRACE(testing::Message() << "T " << T << " C " << C << " N " << N << " rank " << rank);
        const Problem p(1 + T % 2, T, C, N, rank, uint64_t(T * 10000 + C * 10 + N));
        Numbers truth = p.traces;
        reference::selective_traces(p.scan, p.rank, p.low, truth);
        // A decay is an exponential within some 8 roundings; errors of h come into the traces once more.
        const double bound = 32 * kRoundoff * double(4 + T) * largest(truth);
        for_every_target([&] {
          Floats got(p.traces.size(), NAN);
          selective_traces_forward(p.whole(), p.weight(), p.traces4.data(), got.data());
          expect_close("traces", got, truth, [&](size_t) { return bound; });
        });
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(SelectiveTraces, BackwardIsTheProductWithTheStatesGradient) {
  const Problem p(2, 3, 21, 5, 6, 9);
  const auto& s = p.scan;
  Random random(4);
  const Numbers g = draw(random, s.B * s.N * s.C, -1, 1);
  Numbers dA(size_t(s.N * s.C), 0.25), dbias(size_t(s.C), 0.25), dw(size_t(s.C * p.rank), 0.25);
  for (int64_t b = 0; b < s.B; ++b)
    for (int64_t k = 0; k < 2 + p.rank; ++k)
      for (int64_t n = 0; n < s.N; ++n)
        for (int64_t c = 0; c < s.C; ++c) {
          const double term = g[size_t((b * s.N + n) * s.C + c)] *
                              p.traces[size_t(((b * (2 + p.rank) + k) * s.N + n) * s.C + c)];
          (k == 0   ? dA[size_t(n * s.C + c)]
           : k == 1 ? dbias[size_t(c)]
                    : dw[size_t(c * p.rank + k - 2)]) += term;
        }
  for_every_target([&] {
    Floats A(dA.size(), 0.25f), bias(dbias.size(), 0.25f), w(dw.size(), 0.25f);
    selective_traces_backward(p.whole(), p.weight(), p.traces4.data(), narrow(g).data(), A.data(),
                              bias.data(), w.data());
    const auto bound = [](size_t) { return 32 * kRoundoff * 4; };
    expect_close("dA", A, dA, bound);
    expect_close("dbias", bias, dbias, bound);
    expect_close("dw", w, dw, bound);
  });
}

TEST(SelectiveTraces, AnyCutGivesTheSameBits) {
  const Problem p(1, 70, 100, 5, 6, 7);
  for_every_target([&] {
    Floats whole(p.traces.size());
    selective_traces_forward(p.whole(), p.weight(), p.traces4.data(), whole.data());
    for (int64_t chunk : {1, 2, 7, 64}) {
      Floats state = p.h, traces = p.traces4, y(size_t(p.scan.T * p.scan.C));
      for (int64_t t = 0; t < p.scan.T; t += chunk) {
        const SelectiveScan part = p.part(t, std::min(chunk, p.scan.T - t), state.data());
        selective_traces_forward(part, p.weight(t), traces.data(), traces.data());  // in place
        selective_scan_forward(part, y.data(), state.data(), nullptr);
      }
      double off = 0;
      for (size_t i = 0; i < whole.size(); ++i) off = std::max(off, double(std::abs(whole[i] - traces[i])));
      ASSERT_EQ(off, 0) << "chunks of " << chunk;
    }
  });
}

TEST(SelectiveTraces, ThreadsDoNotChangeABit) {
  const Problem p(2, 40, 300, 16, 8, 8);
  expect_same_for_threads([&] {
    Floats traces(p.traces.size()), all(p.A.size() + size_t(p.scan.C * (1 + p.rank)), 0.0f);
    selective_traces_forward(p.whole(), p.weight(), p.traces4.data(), traces.data());
    float* const bias = all.data() + p.A.size();
    selective_traces_backward(p.whole(), p.weight(), traces.data(), p.h.data(), all.data(), bias,
                              bias + p.scan.C);
    traces.insert(traces.end(), all.begin(), all.end());
    return traces;
  });
}

}  // namespace
}  // namespace brood::kernels
