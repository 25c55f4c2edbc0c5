// The weighted average of RWKV-4 (Peng and others 2023): per channel, an average of all values so far,
// weighed by exp of their keys and fading with time; the newest one has a bonus u.
//
//         Σ_{i<t} e^{k_i − (t−1−i) w} v_i + e^{u + k_t} v_t
//   y_t = ─────────────────────────────────────────────────
//         Σ_{i<t} e^{k_i − (t−1−i) w}     + e^{u + k_t}
//
// The state of a channel is three numbers (a, b, p): both sums, scaled so that nothing overflows; the sums
// themselves are e^p a and e^p b. Where b = 0 nothing has been seen and p is not read: a cleared state is an
// empty one.
//
// Layouts: rows are b·T + t. k, v, y: [B·T, C] with row strides; log w and u: [C], as checkpoints hold them
// (time_decay and time_first); states [B][3][C], the rows a, b and p.
//
// Gradients are those of the unscaled recurrence, p being a mere way of writing it down: of a final state
// only the gradients of a and b are read (a loss that depends on e^p a and e^p b alone has no more to say),
// and the gradient of the initial p is what follows from them. A gradient handed from chunk to chunk is
// complete.
//
// Work is split over channels and, forward, over streams. The values of forward are the same to the bit for
// any number of threads and for any cut of a sequence into chunks, steps of one included; gradients for any
// number of threads, and those of k and v for cuts at multiples of kWkv4Checkpoint (those of log w and u add
// up the same terms in another order).
#pragma once

#include <cstdint>

#include "brood/kernels/rows.h"

namespace brood::kernels {

struct Wkv4 {
  int64_t B, T, C;
  ConstRows k, v;
  const float* log_w;  // [C]; w > 0 is the decay in nats a step
  const float* u;      // [C]
  const float* s_in;   // [B][3][C]
};

constexpr int64_t kWkv4Checkpoint = 16;  // steps between stored states; those inside are computed again

// floats that forward keeps for backward: the states before steps 16, 32, …
int64_t wkv4_kept_size(const Wkv4& wkv);

// kept: null when no backward will follow. s_out may equal s_in when kept is null.
void wkv4_forward(const Wkv4& wkv, Rows y, float* s_out, float* kept);

struct Wkv4Gradients {  // each is added to; any may be null
  Rows k, v;
  float* log_w;  // [C]
  float* u;      // [C]
  float* s_in;   // [B][3][C]
};
// s_in must still hold what forward read. kept: from forward. ds_out: the gradient of the final state, or
// null.
void wkv4_backward(const Wkv4& wkv, const float* kept, ConstRows dy, const float* ds_out,
                   const Wkv4Gradients& gradients);

}  // namespace brood::kernels
