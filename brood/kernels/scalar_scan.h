// The matrix scan with one decay a head. Per stream and head, with a state S of N x P numbers:
//
//   S_t = e^{g_t} S_{t−1} + w_t k_t v_tᵀ          y_t = S_tᵀ q_t + d_t v_t
//
// Mamba-2 (Dao and Gu 2024) with v = x, w = Δ, k = B, q = C, g = Δ·A, d = D; retention (Sun et al. 2023) with
// g a constant of the head; linear attention with g = 0. The trapezoid of Mamba-3 (arXiv 2603.15569),
//
//   S_t = e^{g_t} (S_{t−1} + β_t k_{t−1} v_{t−1}ᵀ) + γ_t k_t v_tᵀ          y_t = S_tᵀ q_t + D v_t
//
// is this scan over T + 1 rows: the last step before the chunk comes first, with g = 0; row j has the weight
// γ_j + β_{j+1} (the first only its β, the last only its γ) and the skip D − β_{j+1} q_j·k_j.
//
// Two forms. The recurrence goes step by step. The chunk form takes Q steps together, as products of
// matrices (the state space dual of Mamba-2, section 6): with s_i = g_1 + … + g_i inside the chunk,
//
//   M_ij = e^{s_i − s_j} w_j (q_i·k_j) for j <= i       Y = M V + diag(e^s) (Q S)       (q_i·k_j: once a
//   group) S'   = e^{s_Q} S + Σ_j e^{s_Q − s_j} w_j k_j v_jᵀ
//
// Decays are only ever made from differences of logarithms (of sums in double precision), so none overflows,
// whatever g. A g below −200 is taken as −200: the past is forgotten to the last bit either way, so −∞ begins
// a new document in the midst of a chunk.
//
// Layouts: rows are b·T + t, each with a stride of its own. Head h reads the keys and queries of group
// h / (heads / groups). States are [B][heads][N][P]: the values run along the vector lanes. Work is split
// over streams and heads; results are the same to the bit for any number of threads. The recurrence gives the
// same bits wherever it is cut, the chunk form wherever it is cut between chunks; they differ by rounding.
#pragma once

#include <cstdint>

namespace brood::kernels {

constexpr int64_t kScalarScanMaxChunk = 64;
constexpr int64_t kScalarScanChunk = 32;  // measured: bench/scalar_scan_bench

struct ScalarScan {
  int64_t B, T;
  int64_t heads, groups;  // heads is a multiple of groups
  int64_t P, N;           // numbers of a head's value, of a group's key
  const float* v;         // [B·T, heads·P]
  int64_t v_stride;
  const float* k;  // [B·T, groups·N]
  int64_t k_stride;
  const float* q;  // [B·T, groups·N]
  int64_t q_stride;
  const float* log_decay;  // g <= 0, [B·T, heads]; stride 0: one row for all steps
  int64_t log_decay_stride;
  const float* weight;  // w, as log_decay, or null: 1
  int64_t weight_stride;
  const float* skip;  // d, as log_decay, or null: 0
  int64_t skip_stride;
  const float* state_in;             // [B][heads][N][P]
  int64_t chunk = kScalarScanChunk;  // Q: a multiple of 16, at most kScalarScanMaxChunk
};

// floats of memory that forward works in; 0 for few steps.
int64_t scalar_scan_scratch(const ScalarScan& scan);
// floats of the states that forward keeps for backward, one for every few chunks.
int64_t scalar_scan_checkpoint_size(const ScalarScan& scan);
// y [B·T, heads·P] contiguous. By the recurrence for T < kScalarScanFewSteps, else by chunks. checkpoints may
// be null (not recording); then state_out may equal state_in.
constexpr int64_t kScalarScanFewSteps = 5;
void scalar_scan_forward(const ScalarScan& scan, float* y, float* state_out, float* checkpoints,
                         float* scratch);
// The recurrence, whatever T. state_out may equal state_in.
void scalar_scan_recurrence(const ScalarScan& scan, float* y, float* state_out);

struct ScalarScanGradients {  // each is added to, with strides as in ScalarScan; any may be null
  float* v;
  int64_t v_stride;
  float* k;
  int64_t k_stride;
  float* q;
  int64_t q_stride;
  float* log_decay;
  int64_t log_decay_stride;
  float* weight;
  int64_t weight_stride;
  float* skip;
  int64_t skip_stride;
  float* state_in;
};
int64_t scalar_scan_backward_scratch(const ScalarScan& scan);  // floats
// y and state_out: what forward gave. dy [B·T, heads·P] contiguous. dstate_out: gradient of the final state,
// or null.
void scalar_scan_backward(const ScalarScan& scan, const float* y, const float* state_out,
                          const float* checkpoints, const float* dy, const float* dstate_out,
                          const ScalarScanGradients& gradients, float* scratch);

}  // namespace brood::kernels
