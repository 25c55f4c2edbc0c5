// HiPPO-LegS (Gu, Dao, Ermon, Rudra and Ré 2020) of M = 2N dimensions has A_nk = −√(2n+1)√(2k+1) for n > k,
// −(n+1) for n = k and 0 above. With P_n = √(n + ½) the matrix A + P Pᵀ is normal: −½ plus a skew matrix K,
// K_nk = ∓½ u_n u_k with u_n = √(2n+1), minus below the diagonal (S4: Gu, Goel and Ré 2022, theorem 1).
//
// K's eigenvalues iω need no eigensolver. With s_n = Σ_{k<n} u_k x_k, S = s_M and r_n = 2 s_n − S the rows of
// K x = iω x say
//
//   −¼ u_n (r_n + r_{n+1}) = iω x_n,   r_{n+1} − r_n = 2 u_n x_n
//   so  r_{n+1} = −e^{−2iθ_n} r_n  with  tan θ_n = 2ω/(2n+1)
//
// and r_0 = −S, r_M = S close the chain: for even M exactly where Σ_n θ_n = π/2 + mπ. The sum rises with ω from
// 0 to Mπ/2, so each of m = 0 … N−1 has one ω > 0; the other half are their negatives.
#include "brood/blocks/hippo.h"

#include <cmath>
#include <numbers>

#include "brood/base/error.h"

namespace brood {

namespace {

double legs_frequency(int64_t M, double angle) {
  const auto sum = [&](double w) {
    double total = 0;
    for (int64_t n = 0; n < M; ++n) total += std::atan(2 * w / double(2 * n + 1));
    return total;
  };
  // All are below M²: each θ_n misses π/2 by less than (2n+1)/2ω, all together by less than M²/2ω, and they may
  // miss it by π/2.
  double low = 0, high = double(M * M);
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (sum(middle) < angle ? low : high) = middle;
  }
  return low;
}

}  // namespace

std::vector<double> hippo_frequencies(const std::string& law, int64_t N) {
  const double pi = std::numbers::pi, M = double(2 * N);
  std::vector<double> frequency;
  for (int64_t n = 0; n < N; ++n) {
    if (law == "lin") {
      frequency.push_back(pi * double(n));
    } else if (law == "inv") {
      frequency.push_back(M / pi * (M / double(2 * n + 1) - 1));
    } else {
      BROOD_ASSERT(law == "legs");
      frequency.push_back(legs_frequency(2 * N, pi / 2 + pi * double(N - 1 - n)));
    }
  }
  return frequency;
}

}  // namespace brood
