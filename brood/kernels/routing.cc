// A row has as many numbers as there are experts, some tens: plain loops, against products of a thousand times
// that.
#include "brood/kernels/routing.h"

#include <algorithm>
#include <cmath>

#include "brood/kernels/blocks.h"

namespace brood::kernels {

namespace {

// Exponentials of a row cost some 5 ns each: as much as ten of the numbers that kBlock counts.
constexpr int64_t kExponential = 10;

float largest(int64_t n, const float* z) {
  float most = z[0];
  for (int64_t i = 1; i < n; ++i) most = std::max(most, z[i]);
  return most;
}

// exp(z − most) into e; returns their sum.
float exponentials(int64_t n, const float* z, float most, float* e) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += e[i] = std::exp(z[i] - most);
  return sum;
}

void score_row(const Routing& routing, const float* z, float* score) {
  const int64_t n = routing.n_expert;
  if (routing.softmax) {
    const float sum = exponentials(n, z, largest(n, z), score);
    for (int64_t i = 0; i < n; ++i) score[i] /= sum;
  } else {
    for (int64_t i = 0; i < n; ++i) score[i] = 1.0f / (1.0f + std::exp(-z[i]));
  }
}

bool contains(const int32_t* list, int64_t n, int64_t i) {
  return std::find(list, list + n, int32_t(i)) != list + n;
}

void choose_row(const Routing& routing, const float* score, const float* bias, int32_t* chosen) {
  for (int64_t k = 0; k < routing.top_k; ++k) {
    int64_t best = -1;
    float most = 0;
    for (int64_t i = 0; i < routing.n_expert; ++i) {
      const float wanted = score[i] + (bias ? bias[i] : 0.0f);
      if ((best >= 0 && !(wanted > most)) || contains(chosen, k, i)) continue;
      best = i;
      most = wanted;
    }
    chosen[k] = int32_t(best);
  }
}

// Σ of the chosen scores; above 0 by as little as keeps a division finite.
float chosen_sum(const Routing& routing, const float* score, const int32_t* chosen) {
  float sum = 1e-20f;
  for (int64_t k = 0; k < routing.top_k; ++k) sum += score[chosen[k]];
  return sum;
}

// What the weights and the balance loss ask of the scores of a row, into dscore.
void score_gradient(const Routing& routing, int64_t rows, const float* score, const int32_t* chosen,
                    const int64_t* begin, const float* dweight, float* dscore) {
  const int64_t n = routing.n_expert, k = routing.top_k;
  std::fill(dscore, dscore + n, 0.0f);
  const float sum = routing.renormalise ? chosen_sum(routing, score, chosen) : 1.0f;
  float common = 0;
  if (routing.renormalise)
    for (int64_t r = 0; r < k; ++r) common += score[chosen[r]] / sum * dweight[r];
  for (int64_t r = 0; r < k; ++r) dscore[chosen[r]] = (dweight[r] - common) / sum;
  if (routing.balance_loss == 0) return;
  // P_i = s_i / Σ s; dL/dP_i = factor·c_i with c_i the rows of expert i.
  const float factor = routing.balance_loss * float(n) / (float(rows) * float(rows * k));
  float all = 0, mean = 0;
  for (int64_t i = 0; i < n; ++i) {
    all += score[i];
    mean += score[i] * float(begin[i + 1] - begin[i]);
  }
  all = std::max(all, 1e-20f);
  for (int64_t i = 0; i < n; ++i) dscore[i] += factor * (float(begin[i + 1] - begin[i]) - mean / all) / all;
}

// dz, which holds dscore, through the scores; then the z-loss.
void logit_gradient(const Routing& routing, int64_t rows, const float* z, const float* score, float* dz) {
  const int64_t n = routing.n_expert;
  if (routing.softmax) {
    float mean = 0;
    for (int64_t i = 0; i < n; ++i) mean += score[i] * dz[i];
    for (int64_t i = 0; i < n; ++i) dz[i] = score[i] * (dz[i] - mean);
  } else {
    for (int64_t i = 0; i < n; ++i) dz[i] *= score[i] * (1 - score[i]);
  }
  if (routing.z_loss == 0) return;
  const float most = largest(n, z);
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(z[i] - most);
  const float factor = 2 * routing.z_loss / float(rows) * (most + std::log(sum));
  for (int64_t i = 0; i < n; ++i) dz[i] += factor * std::exp(z[i] - most) / sum;
}

}  // namespace

void route(const Routing& routing, int64_t rows, const float* z, const float* bias, float* score,
           int32_t* chosen, float* weight) {
  const int64_t n = routing.n_expert, k = routing.top_k;
  parallel_rows(rows, n * (kExponential + k), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      float* s = score + r * n;
      int32_t* c = chosen + r * k;
      score_row(routing, z + r * n, s);
      choose_row(routing, s, bias, c);
      const float sum = routing.renormalise ? chosen_sum(routing, s, c) : 1.0f;
      for (int64_t i = 0; i < k; ++i) weight[r * k + i] = s[c[i]] / sum;
    }
  });
}

void sort_choices(const Routing& routing, int64_t rows, const int32_t* chosen, int64_t* begin,
                  int32_t* choice, int32_t* place) {
  const int64_t n = routing.n_expert, choices = rows * routing.top_k;
  std::fill(begin, begin + n + 1, 0);
  for (int64_t c = 0; c < choices; ++c) ++begin[chosen[c] + 1];
  for (int64_t e = 0; e < n; ++e) begin[e + 1] += begin[e];
  // begin[e] runs ahead while its places are given out and is the next one's beginning in the end.
  for (int64_t c = 0; c < choices; ++c) {
    place[c] = int32_t(begin[chosen[c]]++);
    choice[place[c]] = int32_t(c);
  }
  for (int64_t e = n; e > 0; --e) begin[e] = begin[e - 1];
  begin[0] = 0;
}

void route_backward(const Routing& routing, int64_t rows, const float* z, const float* score,
                    const int32_t* chosen, const int64_t* begin, const float* dweight, float* dz) {
  const int64_t n = routing.n_expert, k = routing.top_k;
  parallel_rows(rows, n * (routing.z_loss > 0 ? 2 * kExponential : 4), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const float* s = score + r * n;
      score_gradient(routing, rows, s, chosen + r * k, begin, dweight + r * k, dz + r * n);
      logit_gradient(routing, rows, z + r * n, s, dz + r * n);
    }
  });
}

}  // namespace brood::kernels
