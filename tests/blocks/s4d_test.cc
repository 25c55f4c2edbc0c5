// S4D as the convolution that it is, and where its modes begin.
#include <algorithm>
#include <cmath>

#include "brood/blocks/hippo.h"
#include "brood/model/model.h"
#include "tests/blocks/one_block.h"
#include "tests/reference/activation.h"
#include "tests/reference/discretise.h"

namespace brood {
namespace {

using testing::OneBlock;

// Channel c's answer to a single 1, after l steps: K_l = 2 Re Σ_n C_n B̄_n Ā_n^l, and D at l = 0.
Numbers filter(OneBlock& block, size_t c, size_t N, int64_t length, bool hold) {
  const Numbers log_dt = block.numbers("kernel.log_dt"), log_real = block.numbers("kernel.log_A_real"),
                imag = block.numbers("kernel.A_imag"), C = block.numbers("kernel.C"), D = block.numbers("D");
  Numbers K(static_cast<size_t>(length));
  K[0] = D[c];
  for (size_t n = 0; n < N; ++n) {
    const size_t at = c * N + n;
    const reference::Step step = reference::discretise(log_dt[c], log_real[at], imag[at], hold);
    const reference::Complex output(C[2 * at], C[2 * at + 1]);
    for (size_t l = 0; l < K.size(); ++l) K[l] += 2 * (output * step.B * std::pow(step.A, double(l))).real();
  }
  return K;
}

// The whole layer with its filter as a convolution, in double precision.
Numbers as_convolution(OneBlock& block, const Floats& x, size_t d, size_t N, bool hold) {
  const size_t T = x.size() / d;
  Numbers gelu(x.size()), out;
  for (size_t c = 0; c < d; ++c) {
    const Numbers K = filter(block, c, N, int64_t(T), hold);
    for (size_t t = 0; t < T; ++t) {
      double y = 0;
      for (size_t l = 0; l <= t; ++l) y += K[l] * double(x[(t - l) * d + c]);
      gelu[t * d + c] = reference::gelu(y);
    }
  }
  const Numbers W = block.numbers("output_linear.0.weight"), bias = block.numbers("output_linear.0.bias");
  for (size_t t = 0; t < T; ++t) {
    const Numbers y = testing::times(W, gelu.data() + t * d, d);
    for (size_t c = 0; c < d; ++c)
      out.push_back((y[c] + bias[c]) * reference::sigmoid(y[c + d] + bias[c + d]));
  }
  return out;
}

TEST(S4d, TheRecurrenceIsAConvolutionWithItsKernel) {
  constexpr size_t d = 6, N = 4;
  for (const char* init : {"lin", "inv", "legs"})
    for (const char* method : {"zoh", "bilinear"}) {
      SCOPED_TRACE(std::string(init) + ", " + method);
      OneBlock block("s4d", {{"d_state", 2 * N}, {"init", init}, {"discretisation", method}}, d);
      const Floats x = normals(60 * d, 3);
      // Sixty steps, each a rounding of an angle of up to a few radians.
      testing::expect_same(block.run(x), as_convolution(block, x, d, N, method == std::string("zoh")),
                           60 * 16 * kRoundoff);
    }
}

TEST(S4d, KeptModesFollowTheirParameters) {
  OneBlock block("s4d", {{"d_state", 4}}, 3);
  const Floats x = normals(5 * 3, 3);
  const Numbers before = block.run(x);
  EXPECT_EQ(block.run(x), before);
  block.change("kernel.A_imag", 0, 2.5f);
  const Numbers after = block.run(x);
  EXPECT_NE(after, before);
  testing::expect_same(after, as_convolution(block, x, 3, 2, true), 100 * kRoundoff);
}

// Eigenvalues of a symmetric matrix by Jacobi's rotations.
Numbers eigenvalues(Numbers a, size_t n) {
  for (int sweep = 0; sweep < 60; ++sweep)
    for (size_t p = 0; p < n; ++p)
      for (size_t q = p + 1; q < n; ++q) {
        const double off = a[p * n + q];
        if (off == 0) continue;
        const double half = (a[q * n + q] - a[p * n + p]) / (2 * off);
        const double t = (half >= 0 ? 1 : -1) / (std::abs(half) + std::sqrt(half * half + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (size_t i = 0; i < n; ++i) {
          const double x = a[i * n + p], y = a[i * n + q];
          a[i * n + p] = c * x - s * y, a[i * n + q] = s * x + c * y;
        }
        for (size_t i = 0; i < n; ++i) {
          const double x = a[p * n + i], y = a[q * n + i];
          a[p * n + i] = c * x - s * y, a[q * n + i] = s * x + c * y;
        }
      }
  Numbers values;
  for (size_t i = 0; i < n; ++i) values.push_back(a[i * n + i]);
  std::sort(values.rbegin(), values.rend());
  return values;
}

// HiPPO-LegS plus P Pᵀ is −½ and a skew matrix K; iω an eigenvalue of K is ω² one of K Kᵀ, and with −iω it
// comes twice.
TEST(Hippo, LegsAreTheEigenvaluesOfItsNormalPart) {
  for (size_t N : {1, 2, 3, 8, 32}) {
    SCOPED_TRACE(N);
    const size_t M = 2 * N;
    Numbers K(M * M), squares(M * M);
    for (size_t n = 0; n < M; ++n)
      for (size_t k = 0; k < M; ++k) {
        const double un = std::sqrt(2.0 * double(n) + 1), uk = std::sqrt(2.0 * double(k) + 1);
        const double hippo = n > k ? -un * uk : n == k ? -double(n + 1) : 0;
        const double normal = hippo + std::sqrt(double(n) + 0.5) * std::sqrt(double(k) + 0.5);
        K[n * M + k] = normal + (n == k ? 0.5 : 0);
      }
    for (size_t n = 0; n < M; ++n)
      for (size_t k = 0; k < M; ++k) {
        ASSERT_NEAR(K[n * M + k], -K[k * M + n], 1e-12);
        for (size_t i = 0; i < M; ++i) squares[n * M + k] += K[n * M + i] * K[k * M + i];
      }
    const Numbers direct = eigenvalues(squares, M);
    const std::vector<double> ours = hippo_frequencies("legs", int64_t(N));
    for (size_t n = 0; n < N; ++n) {
      // The error of a square, relative to the largest.
      EXPECT_NEAR(ours[n] * ours[n], direct[2 * n], 1e-13 * direct[0]);
      EXPECT_NEAR(ours[n] * ours[n], direct[2 * n + 1], 1e-13 * direct[0]);
    }
  }
}

TEST(Hippo, LayersThatBeginDifferentlyShareNothing) {
  const Model model(nlohmann::json::parse(R"({"architecture": "stack", "d_model": 4, "n_layer": 4, "mixer": [
      {"type": "s4d", "init": "legs", "d_state": 8}, {"type": "s4d", "init": "inv", "d_state": 8},
      {"type": "s4d", "init": "inv", "d_state": 6}, {"type": "s4d", "init": "inv", "d_state": 6}]})"));
  for (int layer = 0; layer < 4; ++layer) {
    const auto& all = model.parameters().all();
    const auto imag = std::find_if(all.begin(), all.end(), [&](const Parameter& p) {
      return p.name == fmt::format("layers.{}.mixer.kernel.A_imag", layer);
    });
    ASSERT_NE(imag, all.end());
    const std::vector<double> expected = hippo_frequencies(layer == 0 ? "legs" : "inv", layer < 2 ? 4 : 3);
    ASSERT_EQ(imag->value.shape(), (Shape{4, int64_t(expected.size())}));
    for (int64_t i = 0; i < imag->size(); ++i)
      EXPECT_EQ(imag->value.f32()[i], float(expected[size_t(i) % expected.size()])) << layer;
  }
}

TEST(Hippo, TheSimplerLaws) {
  const double pi = std::acos(-1.0);
  const std::vector<double> lin = hippo_frequencies("lin", 3), inv = hippo_frequencies("inv", 32);
  for (size_t n = 0; n < 3; ++n) EXPECT_DOUBLE_EQ(lin[n], pi * double(n));
  EXPECT_DOUBLE_EQ(inv[0], 64 / pi * 63);
  EXPECT_DOUBLE_EQ(inv[31], 64 / pi * (64.0 / 63 - 1));
  // The law was made to follow the modes of LegS: the largest is within a fiftieth.
  EXPECT_NEAR(inv[0] / hippo_frequencies("legs", 32)[0], 1, 0.02);
}

}  // namespace
}  // namespace brood
