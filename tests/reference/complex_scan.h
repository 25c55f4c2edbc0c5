// The scan of complex modes as its equations read, in double precision; slow and obvious.
#pragma once

#include <complex>
#include <cstdint>
#include <vector>

namespace brood::reference {

struct ComplexScan {
  int64_t B, T, C, N;
};

// u: [B·T][C]; A, input, output: [N][2][C], real and imaginary parts; D: [C]; h: [B][N][2][C], moved on to
// the end. y.
inline std::vector<double> complex_scan(const ComplexScan& s, const std::vector<double>& u,
                                        const std::vector<double>& A, const std::vector<double>& input,
                                        const std::vector<double>& output, const std::vector<double>& D,
                                        std::vector<double>& h) {
  using Complex = std::complex<double>;
  std::vector<double> y(u.size());
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t t = 0; t < s.T; ++t) {
      for (int64_t c = 0; c < s.C; ++c) {
        const int64_t at = (b * s.T + t) * s.C + c;
        y[at] = D[c] * u[at];
        for (int64_t n = 0; n < s.N; ++n) {
          const int64_t re = 2 * n * s.C + c, im = re + s.C, state = b * s.N * 2 * s.C;
          const Complex next = Complex(A[re], A[im]) * Complex(h[state + re], h[state + im]) +
                               Complex(input[re], input[im]) * u[at];
          h[state + re] = next.real();
          h[state + im] = next.imag();
          y[at] += 2 * (Complex(output[re], output[im]) * next).real();
        }
      }
    }
  }
  return y;
}

}  // namespace brood::reference
