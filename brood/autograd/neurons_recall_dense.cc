// recall() by dense products over all neurons. neurons_recall.h has the equations.
#include <algorithm>
#include <cstring>

#include "brood/autograd/neurons_recall.h"
#include "brood/base/threads.h"

namespace brood {

using kernels::Order;

void Recall::forward_dense() {
  Arena& scratch = space->scratch();
  float* R = scratch.floats(B * T * n);
  float* read = scratch.floats(B * heads * T * D);
  const float* values = X.values.value();
  auto rotate = [&](int64_t r) {
    kernels::rotate_neurons(space->rotary(), r, 1, heads, false, false, values, R);
  };
  parallel(B * T, rotate);
  constexpr int64_t kScoreRows = 64;  // S is made in blocks of rows, as far as the diagonal
  const int64_t blocks = T > 1 ? (T + kScoreRows - 1) / kScoreRows : 0;
  auto score = [&](int64_t i) {
    const int64_t b = i / blocks / heads, h = i / blocks % heads, first = i % blocks * kScoreRows;
    const int64_t count = std::min(kScoreRows, T - first);
    const float* R_h = R + b * T * n + h * N;
    kernels::matmul(Order::kPlain, Order::kTransposed, count, first + count, N, R_h + first * n, n, R_h, n,
                    false, scores(b, h) + first * padded, padded);
  };
  parallel(B * heads * blocks, score);
  auto task = [&](int64_t i) {
    const int64_t b = i / heads, h = i % heads;
    if (T > 1) {
      mask_scores(b, h);
      kernels::matmul(Order::kPlain, Order::kPlain, T, D, T, scores(b, h), padded, x_of(b), D, false,
                      a_of(b, h), heads * D);
    } else {
      std::memset(a_of(b, h), 0, size_t(D) * sizeof(float));
    }
    if (!reads(b)) return;
    float* past = read + i * T * D;
    kernels::matmul(Order::kPlain, Order::kPlain, T, D, N, R + b * T * n + h * N, n, rho(b, h * N), D, false,
                    past, D);
    read_past(b, h, past);
  };
  parallel(B * heads, task);
}

void Recall::backward_dense(Arena& scratch, const float* G, const float* da_scaled) const {
  float *R = scratch.floats(B * T * n), *dR = scratch.floats(B * T * n);
  float* dX = tape->gradient(X.values);
  auto rotate = [&](int64_t r) {
    kernels::rotate_neurons(space->rotary(), r, 1, heads, false, false, X.values.value(), R);
  };
  parallel(B * T, rotate);
  auto task = [&](int64_t i) {
    const int64_t b = i / heads, h = i % heads, at = b * T * n + h * N;
    if (T > 1)
      kernels::matmul(Order::kPlain, Order::kPlain, T, N, T, G + i * T * padded, padded, R + at, n, false,
                      dR + at, n);
    else
      std::memset(dR + at, 0, size_t(N) * sizeof(float));
    if (reads(b))
      kernels::matmul(Order::kPlain, Order::kTransposed, T, N, D, da_scaled + (b * T * heads + h) * D,
                      heads * D, rho(b, h * N), D, true, dR + at, n);
  };
  parallel(B * heads, task);
  auto turn_back = [&](int64_t r) {
    kernels::rotate_neurons(space->rotary(), r, 1, heads, true, true, dR, dX);
  };
  parallel(B * T, turn_back);
}

// ρ ← rescale·ρ + Σ_t R_t written_tᵀ
void Recall::write_dense() const {
  Arena& scratch = space->scratch();
  float* R = scratch.floats(B * T * n);
  auto rotate = [&](int64_t r) {
    kernels::rotate_neurons(space->rotary(), r, 1, heads, false, false, X.values.value(), R);
  };
  parallel(B * T, rotate);
  auto task = [&](int64_t i) {
    const int64_t b = i / heads, h = i % heads;
    if (!plans[b].empty) rescale_rows(b, h * N, N);
    kernels::matmul(Order::kTransposed, Order::kPlain, N, D, T, R + b * T * n + h * N, n, plans[b].written, D,
                    !plans[b].empty, rho(b, h * N), D);
  };
  parallel(B * heads, task);
}

}  // namespace brood
