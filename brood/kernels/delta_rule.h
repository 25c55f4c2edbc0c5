// What may stand around a delta scan: decays, keys and the newest step's bonus, in the form of Peng and others,
// "RWKV-7 Goose with Expressive Dynamic State Evolution" (2025). Rows are steps, heads of N columns stand side by
// side, C = heads·N; matrices named Rows may be columns of wider ones, the others are contiguous.
//
// Values are the same to the bit for any number of threads and any cut into rows; gradients for any number of
// threads. Backward functions add, and every gradient is wanted.
#pragma once

#include <cstdint>

#include "brood/kernels/rows.h"

namespace brood::kernels {

// Decays: w = exp(−e^{−1/2}·σ(z + bias)), in (0.545, 1). bias [cols].
void bounded_decay(int64_t rows, int64_t cols, const float* z, const float* bias, float* w);
void bounded_decay_backward(int64_t rows, int64_t cols, const float* z, const float* bias, const float* w,
                            const float* dw, float* dz, float* dbias);

// Keys, from k and the in-context learning rate a. With κ the direction of k∘k_k in its head, u/max(|u|, 1e-12):
//   key = k∘(1 + (a − 1)∘k_a)     what is written
//   erased = −κ                   what the state is read at before, to be taken away,
//   replaced = κ∘a                and where it is taken away, by how much
struct DeltaRuleKeys {
  int64_t rows, heads, N;
  ConstRows k, a;
  const float *k_k, *k_a;  // [C]
};
struct DeltaRuleKeyRows {
  Rows key, erased, replaced;
};
// inverse [rows][heads] receives 1/|u| for backward (may be null); 0 where u is too short to have a direction, so
// that no gradient, which would be 1e12 times as large, comes through it.
void delta_keys(const DeltaRuleKeys& in, const DeltaRuleKeyRows& out, float* inverse);
struct DeltaRuleKeysGradients {
  Rows k, a;
  float *k_k, *k_a;
};
void delta_keys_backward(const DeltaRuleKeys& in, const float* inverse, ConstRows erased, ConstRows dkey,
                         ConstRows derased, ConstRows dreplaced, const DeltaRuleKeysGradients& gradients);

// The bonus of the newest step: y = o + s·v per head, s = Σ r∘k∘r_k over the head.
struct StepBonus {
  int64_t rows, heads, N;
  ConstRows o, r, k, v;
  const float* r_k;  // [C]
};
// s [rows][heads] is kept for backward (may be null). y [rows, C].
void step_bonus(const StepBonus& in, float* y, float* s);
struct StepBonusGradients {
  Rows o, r, k, v;
  float* r_k;
};
void step_bonus_backward(const StepBonus& in, const float* s, const float* dy,
                         const StepBonusGradients& gradients);

}  // namespace brood::kernels
