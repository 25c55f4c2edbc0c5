// Transposition of a block of a matrix, on the calling thread.
#pragma once

#include <cstdint>

namespace brood::kernels {

// to[i·to_step + j] = from[j·from_step + i] for i < rows, j < columns.
void turn(int64_t rows, int64_t columns, const float* from, int64_t from_step, float* to, int64_t to_step);

}  // namespace brood::kernels
