// Softmax cross-entropy in nats.
#pragma once

#include <cstdint>

namespace brood::kernels {

// loss[r] = log Σ exp(logits[r]) − logits[r][target[r]]; target −1 gives loss 0 and no gradient.
// log_sum[r] = log Σ exp(logits[r]) is kept for backward (may be null).
void cross_entropy_forward(int64_t rows, int64_t classes, const float* logits, const int32_t* targets,
                           float* loss, float* log_sum);
// dlogits[r] = (softmax(logits[r]) − onehot(target[r])) · scale[r], overwriting; rows with target −1 get 0.
// In place when dlogits == logits.
void cross_entropy_backward(int64_t rows, int64_t classes, const float* logits, const int32_t* targets,
                            const float* log_sum, const float* scale, float* dlogits);

}  // namespace brood::kernels
