// Matrices whose rows are apart: columns of a wider matrix, as a fused projection leaves them.
#pragma once

#include <cstdint>

namespace brood::kernels {

struct ConstRows {
  const float* data;
  int64_t stride;  // floats from one row to the next
  const float* row(int64_t r) const { return data + r * stride; }
};

struct Rows {
  float* data;  // or null, where the header that asks for it allows that
  int64_t stride;
  float* row(int64_t r) const { return data + r * stride; }
};

}  // namespace brood::kernels
