// The read of the past by synapses, in chunks, as the files of recall() share it (autograd/neurons.h).
//
// With R the rotated neurons of a chunk's T steps and ρ the synapses before it, per stream and head:
//
//   S_ts = λ^(t−s) ⟨R_t, R_s⟩ for s < t, else 0          a_t = Σ_s S_ts x_s + λ^t ρᵀR_t
//   ρ ← λ^T ρ + Σ_t λ^(T−t) R_t x_tᵀ
//
// This is the recurrence a_t = ρᵀR_t, ρ ← λ(ρ + R_t x_tᵀ) for any cut of a stream into chunks. Memory: ρ is
// kept divided by exp(−faded) so that fading is a matter of one number; a write at step t then weighs
// λ^(T−t)/exp(−faded'). Before these weights grow out of proportion ρ itself is brought up to date.
//
// Backward, da given (ρ is a constant): G = dS + dSᵀ with dS_ts = λ^(t−s) ⟨da_t, x_s⟩ for s < t;
//   dR = G R + λ^t da ρᵀ,   dx_s += Σ_t S_ts da_t.
// Detached, R_s and x_s of the past are constants: G = dS, and dx gets nothing.
#pragma once

#include <cstdint>

#include "brood/autograd/neurons.h"

namespace brood {

// What a chunk does to the synapses of one stream.
struct StreamPlan {
  bool empty;        // at the start of the stream: ρ is zero whatever its memory holds
  float read_scale;  // exp(−faded) before the chunk
  float rescale;     // factor for ρ's memory before writing
  float* written;    // [T, D] x_t times its weight
};

// Everything forward, the write and backward know. Plain data: it is captured by the tape.
struct Recall {
  static constexpr int64_t kRowAlign = 16;  // rows of S are padded to whole vectors

  Tape* tape;
  NeuronSpace* space;
  const NeuronTiling* tiling;
  Neurons X;
  Var x, a;
  int64_t B, T, padded;  // padded: T rounded up, the row stride of S
  int64_t heads, N, D, n;
  double fade;
  bool detached;
  bool keep;  // the final state is wanted
  float* synapses;
  float* S;           // [B, heads, T, padded]
  float* powers;      // [T + 1] λ^k
  StreamPlan* plans;  // [B]
  uint64_t chunk_number;

  float* rho(int64_t b, int64_t neuron) const { return synapses + (b * n + neuron) * D; }
  float* scores(int64_t b, int64_t h) const { return S + (b * heads + h) * T * padded; }
  float* a_of(int64_t b, int64_t h) const { return a.value() + (b * T * heads + h) * D; }
  const float* x_of(int64_t b) const { return x.value() + b * T * D; }
  bool reads(int64_t b) const { return !plans[b].empty; }
  int64_t head_of_group(int64_t g) const { return g / tiling->groups_per_head; }
  // Rows of a power-of-two length, written a column at a time, would all fall upon the same sets of the L1
  // cache.
  int64_t column_stride() const { return padded + kRowAlign; }

  void plan(const Chunk& chunk, StateVar& faded);
  void forward();
  void write() const;
  void backward() const;

 private:
  void forward_dense();
  void forward_lists();
  void combine(const float* scores_parts, const float* read_parts) const;
  void mask_scores(int64_t b, int64_t h) const;
  void read_past(int64_t b, int64_t h, const float* read) const;
  void rescale_rows(int64_t b, int64_t neuron, int64_t count) const;
  void write_dense() const;
  void write_lists() const;
  void score_gradients(float* G) const;
  void backward_dense(Arena& scratch, const float* G, const float* da_scaled) const;
  void backward_lists(Arena& scratch, const float* G, const float* da_scaled) const;
};

}  // namespace brood
