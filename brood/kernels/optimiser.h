// Parameter updates, and the fused passes of live learning in which the update rides in the backward pass.
#pragma once

#include <cstdint>

#include "brood/tensor/tensor.h"

namespace brood::kernels {

// Adam with decoupled weight decay (Loshchilov and Hutter 2019):
//   m ← β1 m + (1−β1) g;  v ← β2 v + (1−β2) g²;  w ← w − lr·(m·correct1/(sqrt(v·correct2) + eps) + decay·w)
// correct1 = 1/(1−β1^t), correct2 = 1/(1−β2^t).
struct AdamW {
  float lr, beta1, beta2, eps, decay, correct1, correct2;
};

// n contiguous numbers; g is multiplied by grad_scale first (clipping); copy receives w in bf16 when not
// null. Threaded when large; elementwise, so any split gives the same bits.
void adamw(int64_t n, const AdamW& step, const float* g, float grad_scale, float* w, float* m, float* v,
           Bf16* copy);
void sgd(int64_t n, float lr, float decay, const float* g, float grad_scale, float* w, Bf16* copy);

double squared_norm(int64_t n, const float* x);  // fixed order of summation

// y[T,out] = x Wᵀ backward and update in one pass over W [out,in], for few rows (T <= kMostRidingSteps):
//   dx (+)= dy·W (W before the update; dx may be null; overwritten unless accumulate),   W ← W − lr·dyᵀx −
//   lr·decay·W
// Split over fixed blocks of W's rows (partial sums of dx in scratch, added in block order).
constexpr int64_t kMostRidingSteps = 32;
int64_t linear_backward_scratch(int64_t T, int64_t out, int64_t in);  // floats
void linear_backward_sgd(int64_t T, int64_t out, int64_t in, const float* dy, const float* x, float lr,
                         float decay, float* w, float* dx, bool accumulate, float* scratch);
void linear_backward_adamw(int64_t T, int64_t out, int64_t in, const float* dy, const float* x,
                           const AdamW& step, float* w, float* m, float* v, float* dx, bool accumulate,
                           float* scratch);

}  // namespace brood::kernels
