// One row for all rows of a matrix, and back. Contiguous, row-major.
#pragma once

#include <cstdint>

namespace brood::kernels {

void add_row(int64_t rows, int64_t cols, const float* row, float* y);     // y[r] += row
void sum_rows(int64_t rows, int64_t cols, const float* x, float* total);  // total += Σ_r x[r]

}  // namespace brood::kernels
