// Products between a few awake neurons and the rows of a matrix.
//
// A layer of neurons is stored neuron-major: neuron j owns row j, a contiguous stream of `cols` floats. Which
// neurons are awake is data: for each of `rows` steps a list of indices (with values kept beside it). All
// three products of a sparse layer, forward and backward, walk the same lists:
//
//   accumulate   out[r] += Σ_k value[k]·matrix[index[k]]      X·W, and gradients that flow back to the steps
//   dot          out[k] (+)= ⟨steps[r], matrix[index[k]]⟩     a product evaluated only where it is wanted
//   scatter      matrix[index[k]] += value[k]·steps[r]        gradients of the rows; Hebbian writes
//
// with k running over the list of step r. Callers cut the neurons into tiles whose rows stay in the L1 or L2
// cache while all steps of a chunk pass. Inside a list the order of summation is that of the list; nothing is
// threaded here, so results depend on the arguments alone.
#pragma once

#include <cstdint>

#include "brood/tensor/tensor.h"

namespace brood::kernels {

struct RowLists {
  int64_t rows;            // steps
  const uint32_t* offset;  // [rows + 1]: step r owns entries offset[r] .. offset[r+1]
  const uint32_t* index;   // rows of the matrix; entries are counted from 0 of this array
  int64_t base, width;     // all indices lie in [base, base + width)
  bool more;               // the rows that follow are wanted next: bring them near meanwhile
};

// stride: floats between the rows of the matrix. causal: out[r] is wanted in columns below r only, others may
// or may not be touched (the lower triangle of a product of steps with steps).
void accumulate_rows(const RowLists& lists, const float* value, const float* matrix, int64_t stride,
                     int64_t cols, float* out, int64_t out_stride, bool causal = false);

// out is indexed as the entries are.
void dot_rows(const RowLists& lists, const float* matrix, int64_t stride, int64_t cols, const float* steps,
              int64_t steps_stride, bool accumulate, float* out);

// The first two with rows of bf16; values, steps and sums are f32.
void accumulate_rows(const RowLists& lists, const float* value, const Bf16* matrix, int64_t stride,
                     int64_t cols, float* out, int64_t out_stride);
void dot_rows(const RowLists& lists, const Bf16* matrix, int64_t stride, int64_t cols, const float* steps,
              int64_t steps_stride, float* out);

void scatter_rows(const RowLists& lists, const float* value, const float* steps, int64_t steps_stride,
                  int64_t cols, float* matrix, int64_t stride);

// One step, reading before writing in a single pass over the rows (index null: rows 0 .. count−1):
//   out += Σ_k value[k]·matrix[index[k]];   matrix[index[k]] += value[k]·written
void read_and_write_rows(int64_t count, const uint32_t* index, const float* value, const float* written,
                         int64_t cols, float* matrix, int64_t stride, float* out);

}  // namespace brood::kernels
