// The traces of complex modes as their equations read, in double precision; slow and obvious.
#pragma once

#include <complex>
#include <vector>

#include "tests/reference/complex_scan.h"

namespace brood::reference {

// Arrays as in complex_scan; traces: [B][2][N][2][C], moved on to the end as h is.
inline void complex_traces(const ComplexScan& s, const std::vector<double>& u, const std::vector<double>& A,
                           const std::vector<double>& input, std::vector<double>& h,
                           std::vector<double>& traces) {
  using Complex = std::complex<double>;
  const int64_t modes = s.N * 2 * s.C;
  const auto at = [&](std::vector<double>& x, int64_t re) {
    return Complex(x[size_t(re)], x[size_t(re + s.C)]);
  };
  const auto set = [&](std::vector<double>& x, int64_t re, Complex z) {
    x[size_t(re)] = z.real();
    x[size_t(re + s.C)] = z.imag();
  };
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t t = 0; t < s.T; ++t) {
      for (int64_t c = 0; c < s.C; ++c) {
        const double x = u[size_t((b * s.T + t) * s.C + c)];
        for (int64_t n = 0; n < s.N; ++n) {
          const int64_t re = 2 * n * s.C + c, state = b * modes + re, p = 2 * b * modes + re, q = p + modes;
          const Complex a(A[size_t(re)], A[size_t(re + s.C)]), in(input[size_t(re)], input[size_t(re + s.C)]);
          set(traces, p, a * at(traces, p) + at(h, state));
          set(traces, q, a * at(traces, q) + x);
          set(h, state, a * at(h, state) + in * x);
        }
      }
    }
  }
}

}  // namespace brood::reference
