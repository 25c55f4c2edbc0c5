// Routing rows to experts: scores, the choice, the weights of the chosen, the order in which experts take
// their rows; and the way back.
//
//   s = softmax(z) or σ(z)                             z [rows, N]: the router's logits, always f32
//   chosen = the top_k largest of s + b                b only chooses: it is in no weight and has no gradient
//   w_i = s_i,  renormalised: s_i / Σ_chosen s_j       (of one chosen that would be 1: no gradient for z)
//
// Switch (Fedus, Zoph and Shazeer 2021): softmax, one chosen. Mixtral: softmax, renormalised, which is a
// softmax over the chosen. DeepSeek-V3 (2024): σ, bias, renormalised.
#pragma once

#include <cstdint>

namespace brood::kernels {

struct Routing {
  int64_t n_expert = 1, top_k = 1;
  bool softmax = false;
  bool renormalise = false;
  // Losses whose gradients route_backward() adds, as means over rows (Fedus et al. eq. 4;
  // Zoph et al. "ST-MoE" 2022, eq. 5):
  //   balance_loss · N Σ_i f_i P_i     f_i: share of the choices that fell on i, P_i: mean of s_i / Σ_j s_j
  //   z_loss · mean (log Σ_j exp z_j)²
  float balance_loss = 0, z_loss = 0;
};

// Of equal sums the expert of the lower number is chosen; a row of NaNs is routed somewhere. score [rows, N];
// chosen and weight [rows, top_k], best first. bias [N] or null.
void route(const Routing& routing, int64_t rows, const float* z, const float* bias, float* score,
           int32_t* chosen, float* weight);

// Counting sort of the choices, c = row·top_k + rank, by expert, each expert's in the order of rows:
// begin [N + 1]: expert e takes the places begin[e] .. begin[e+1]; choice[place] = c, place[c] is its inverse.
void sort_choices(const Routing& routing, int64_t rows, const int32_t* chosen, int64_t* begin,
                  int32_t* choice, int32_t* place);

// dz [rows, N], written whole, from dweight [rows, top_k] and the losses; begin as sort_choices() left it.
void route_backward(const Routing& routing, int64_t rows, const float* z, const float* score,
                    const int32_t* chosen, const int64_t* begin, const float* dweight, float* dz);

}  // namespace brood::kernels
