#include "brood/kernels/discretise.h"

#include "tests/kernels/scan_check.h"
#include "tests/reference/discretise.h"

namespace brood::kernels {
namespace {

ScanCase make_case(int64_t C, int64_t N, Discretisation method) {
  Random random(uint64_t(C * 100 + N));
  const bool hold = method == Discretisation::kZeroOrderHold;
  ScanCase c;
  c.names = {"log_dt", "log_real", "imag"};
  c.inputs = {draw(random, C, -7, -1), draw(random, C * N, -2, 1), draw(random, C * N, -40, 40)};
  c.reference = [C, N, hold](const std::vector<Numbers>& in) {
    ScanValues values{Numbers(size_t(2 * N * C)), Numbers(size_t(2 * N * C))};
    for (int64_t n = 0; n < N; ++n)
      for (int64_t i = 0; i < C; ++i) {
        const auto at = size_t(n * C + i), real = size_t(2 * n * C + i), imag = real + size_t(C);
        const reference::Step step = reference::discretise(in[0][size_t(i)], in[1][at], in[2][at], hold);
        values.y[real] = step.A.real(), values.y[imag] = step.A.imag();
        values.state[real] = step.B.real(), values.state[imag] = step.B.imag();
      }
    return values;
  };
  const Floats log_dt = narrow(c.inputs[0]), log_real = narrow(c.inputs[1]), imag = narrow(c.inputs[2]);
  c.kernel = [=](const Numbers& dy, const Numbers& dstate) {
    const ContinuousModes modes{
        .C = C, .N = N, .log_dt = log_dt.data(), .log_real = log_real.data(), .imag = imag.data()};
    const auto size = size_t(2 * N * C);
    ScanRun run{Floats(size), Floats(size), {Floats(size_t(C), kBefore), Floats(size_t(C * N), kBefore)}};
    run.gradients.push_back(run.gradients[1]);
    discretise(modes, method, run.y.data(), run.state.data());
    const Floats dA = narrow(dy), dB = dstate.empty() ? Floats(size) : narrow(dstate);
    discretise_backward(modes, method, run.y.data(), run.state.data(), dA.data(), dB.data(),
                        {.log_dt = run.gradients[0].data(),
                         .log_real = run.gradients[1].data(),
                         .imag = run.gradients[2].data()});
    return run;
  };
  // An angle of up to 15 is rounded before its sine is taken; then a dozen operations.
  c.terms = 32 + double(N);
  return c;
}

TEST(Discretise, AllSmallShapes) {
  for (const auto method : {Discretisation::kZeroOrderHold, Discretisation::kBilinear})
    for (int64_t C : {1, 2, 7, 16, 19})
      for (int64_t N : {1, 3}) {
        SCOPED_TRACE(std::to_string(C) + " channels, " + std::to_string(N) + " modes");
        const ScanCase c = make_case(C, N, method);
        expect_values(c);
        expect_every_gradient(c, true);
      }
}

// Slow modes, whose e^z − 1 is a small difference of numbers near 1: the relative error stays small.
TEST(Discretise, SlowModesLoseNoDigits) {
  const Floats log_dt = {std::log(1e-4f)}, log_real = {std::log(0.5f)}, imag = {0.25f};
  const reference::Step truth = reference::discretise(log_dt[0], log_real[0], imag[0], true);
  for_every_target([&] {
    Floats A(2), B(2);
    discretise({.C = 1, .N = 1, .log_dt = log_dt.data(), .log_real = log_real.data(), .imag = imag.data()},
               Discretisation::kZeroOrderHold, A.data(), B.data());
    const reference::Complex off(double(B[0]) - truth.B.real(), double(B[1]) - truth.B.imag());
    EXPECT_LE(std::abs(off), 16 * kRoundoff * std::abs(truth.B));
  });
}

// The slope of B along a is one, too, of the second order: on both sides of where a series takes over.
TEST(Discretise, SlopesOfSlowModesLoseNoDigits) {
  using Long = std::complex<long double>;
  const Floats log_real = {std::log(0.5f)}, imag = {0.25f};
  for (const float dt : {1e-6f, 1e-4f, 1e-2f, 0.2f, 0.223f, 0.224f, 0.3f, 1.0f}) {
    SCOPED_TRACE(dt);
    const Floats log_dt = {std::log(dt)};
    const long double step = std::exp((long double)log_dt[0]);
    const Long a(-std::exp((long double)log_real[0]), (long double)imag[0]), z = step * a;
    // Where even these digits would not do, the next term is below a rounding.
    const Long truth = step * step *
                       (std::abs(z) < 1e-3L ? 0.5L + z / 3.0L + z * z / 8.0L + z * z * z / 30.0L
                                            : (z * std::exp(z) - std::exp(z) + 1.0L) / (z * z));
    for_every_target([&] {
      Floats A(2), B(2), log_dt_slope(1), real_slope(1), imag_slope(1);
      const ContinuousModes modes{
          .C = 1, .N = 1, .log_dt = log_dt.data(), .log_real = log_real.data(), .imag = imag.data()};
      discretise(modes, Discretisation::kZeroOrderHold, A.data(), B.data());
      const Floats dA(2), dB = {1, 0};
      discretise_backward(modes, Discretisation::kZeroOrderHold, A.data(), B.data(), dA.data(), dB.data(),
                          {log_dt_slope.data(), real_slope.data(), imag_slope.data()});
      const Long got((long double)real_slope[0] / a.real(), -(long double)imag_slope[0]);
      EXPECT_LE(double(std::abs(got - truth)), 64 * kRoundoff * double(std::abs(truth)));
    });
  }
}

TEST(Discretise, SameForAnyThreads) {
  const ScanCase c = make_case(300, 40, Discretisation::kZeroOrderHold);
  expect_same_for_threads([&] {
    const ScanRun run = c.kernel(Numbers(size_t(2 * 40 * 300), 1.0), Numbers(size_t(2 * 40 * 300), 0.5));
    Floats all = run.y;
    for (const Floats& g : run.gradients) all.insert(all.end(), g.begin(), g.end());
    return all;
  });
}

}  // namespace
}  // namespace brood::kernels
