// Causal multi-query attention over a cache (Shazeer 2019), and rotary positions (Su et al. 2021).
//
// The chunk's own keys and values are already appended to the cache, so query (b, t) sees cache rows
// [max(0, start + t + 1 − window), start + t] of stream b, where start is the number of rows before this
// chunk.
#pragma once

#include <cstdint>

namespace brood::kernels {

// Rotates pairs (2i, 2i+1) of each head of each row by position·theta^(−2i/head_dim). rows = B·T, row b·T+t
// has position positions[b] + t. In place when y == x. inverse rotates back (the backward pass).
void rotary(int64_t B, int64_t T, int64_t heads, int64_t head_dim, const int64_t* positions, float theta,
            bool inverse, const float* x, int64_t x_stride, float* y, int64_t y_stride);

constexpr int64_t kMaxHeadDim = 256;

struct Attention {
  int64_t B, T, heads, head_dim;
  const float* q;  // [B·T, heads·head_dim], row stride q_stride
  int64_t q_stride;
  const float* keys;     // stream b at keys + b·cache_stride, rows of head_dim
  const float* values;   // the same
  int64_t cache_stride;  // floats between streams
  const int64_t* start;  // [B] cache rows before this chunk
  int64_t window;        // most rows a query sees, itself included
};

// y [B·T, heads·head_dim]; softmax(q kᵀ/sqrt(head_dim)) v. log_sum [B·T, heads] kept for backward, may be
// null.
void attention_forward(const Attention& attention, float* y, float* log_sum);

// Adds to dq (stride q_stride) and to dkeys, dvalues [B·T, head_dim] of the chunk's own rows; older rows are
// constants.
int64_t attention_backward_scratch(const Attention& attention);
void attention_backward(const Attention& attention, const float* y, const float* log_sum, const float* dy,
                        float* dq, int64_t dq_stride, float* dkeys, float* dvalues, float* scratch);

}  // namespace brood::kernels
