#include "brood/learn/riding.h"

#include <algorithm>

#include "brood/base/threads.h"
#include "brood/kernels/matmul.h"
#include "brood/kernels/optimiser.h"

namespace brood {

namespace {

using kernels::Order;

// The fused pass over W wins up to as many steps as it takes, and from some steps on for whole vectors of
// columns only; elsewhere products do, a block of rows at a time.
constexpr int64_t kFusedSteps = kernels::kMostRidingSteps, kFusedStepsOfAnyWidth = 8, kVectorColumns = 16;
// Rows of W whose gradient is formed and used up at once: 64 rows of 256 floats are 64 KB, a small part of
// L2.
constexpr int64_t kBlockRows = 64;
constexpr int64_t kMostTasks = 16;

}  // namespace

RidingOptimiser::RidingOptimiser(const OptimiserSettings& settings) : settings_(settings) {}

void RidingOptimiser::begin_step(double learning_rate) {
  learning_rate_ = learning_rate;
  ++steps_;
}

void RidingOptimiser::linear(Parameter& w, int64_t T, const float* dy, int64_t ldy, const float* x,
                             int64_t ldx, float* dx, int64_t lddx, bool accumulate, Precision precision,
                             Arena& scratch) {
  // A weight used again in this step gathers its gradient; products in bf16 read a copy that must not change
  // under them.
  if (w.open_uses != 1 || w.gradient_open || precision != Precision::kF32) {
    GradientSink::linear(w, T, dy, ldy, x, ldx, dx, lddx, accumulate, precision, scratch);
    return;
  }
  const int64_t out = w.value.shape()[0], in = w.value.shape()[1];
  const bool fusible = T <= (in % kVectorColumns == 0 ? kFusedSteps : kFusedStepsOfAnyWidth);
  if (fusible && ldy == out && ldx == in && (!dx || lddx == in)) {
    fused(w, T, dy, x, dx, accumulate, scratch);
  } else {
    if (dx)
      kernels::matmul(Order::kPlain, Order::kPlain, T, in, out, dy, ldy, w.value.f32(), in, accumulate, dx,
                      lddx);
    blocked(w, T, dy, ldy, x, ldx, scratch);
  }
  ++w.version;
  --w.open_uses;
}

void RidingOptimiser::fused(Parameter& w, int64_t T, const float* dy, const float* x, float* dx,
                            bool accumulate, Arena& scratch) {
  const int64_t out = w.value.shape()[0], in = w.value.shape()[1];
  const Arena::Mark mark = scratch.mark();  // the next matrix takes the same memory, still in the cache
  float* partial = scratch.floats(kernels::linear_backward_scratch(T, out, in));
  if (settings_.kind == OptimiserSettings::Kind::kAdamW) {
    ensure_moments(w);
    kernels::linear_backward_adamw(T, out, in, dy, x, adamw_step(settings_, w, learning_rate_, steps_),
                                   w.value.f32(), w.moment1.f32(), w.moment2.f32(), dx, accumulate, partial);
  } else {
    const float decay = w.decays ? float(settings_.weight_decay) : 0.0f;
    kernels::linear_backward_sgd(T, out, in, dy, x, float(learning_rate_), decay, w.value.f32(), dx,
                                 accumulate, partial);
  }
  scratch.release(mark);
}

void RidingOptimiser::blocked(Parameter& w, int64_t T, const float* dy, int64_t ldy, const float* x,
                              int64_t ldx, Arena& scratch) {
  const int64_t out = w.value.shape()[0], in = w.value.shape()[1];
  const int64_t blocks = (out + kBlockRows - 1) / kBlockRows;
  const int64_t tasks = std::min(blocks, kMostTasks);
  const bool adam = settings_.kind == OptimiserSettings::Kind::kAdamW;
  if (adam) ensure_moments(w);
  const kernels::AdamW step = adamw_step(settings_, w, learning_rate_, steps_);
  const Arena::Mark mark = scratch.mark();
  float* gradients = scratch.floats(tasks * kBlockRows * in);
  parallel(tasks, [&](int64_t task) {
    float* g = gradients + task * kBlockRows * in;
    for (int64_t block = task * blocks / tasks; block < (task + 1) * blocks / tasks; ++block) {
      const int64_t row = block * kBlockRows, rows = std::min(kBlockRows, out - row);
      kernels::matmul(Order::kTransposed, Order::kPlain, rows, in, T, dy + row, ldy, x, ldx, false, g, in);
      float* values = w.value.f32() + row * in;
      if (adam) {
        kernels::adamw(rows * in, step, g, 1.0f, values, w.moment1.f32() + row * in,
                       w.moment2.f32() + row * in, nullptr);
      } else {
        kernels::sgd(rows * in, step.lr, step.decay, g, 1.0f, values, nullptr);
      }
    }
  });
  scratch.release(mark);
}

void RidingOptimiser::rows(Parameter& table, int64_t n, const int32_t* tokens, const float* dy) {
  // Plain SGD moves only the rows looked up; Adam's moments and weight decay move every row.
  if (settings_.kind != OptimiserSettings::Kind::kSgd || table.open_uses != 1 || table.gradient_open ||
      (table.decays && settings_.weight_decay != 0)) {
    GradientSink::rows(table, n, tokens, dy);
    return;
  }
  const int64_t d = table.value.shape()[1];
  for (int64_t r = 0; r < n; ++r)
    kernels::sgd(d, float(learning_rate_), 0.0f, dy + r * d, 1.0f, table.value.f32() + tokens[r] * d,
                 nullptr);
  ++table.version;
  --table.open_uses;
}

void RidingOptimiser::finished(Parameter& w) {
  if (--w.open_uses == 0) update(w);
}

void RidingOptimiser::step_done(std::vector<Parameter*>& used) {
  for (Parameter* w : used) {
    if (w->open_uses > 0 && w->gradient_open) update(*w);  // some of its uses had no gradient
    w->open_uses = 0;
  }
}

void RidingOptimiser::update(Parameter& w) {
  if (!w.gradient_open) return;
  if (w.balance_rate > 0) return balance(w);
  const kernels::AdamW step = adamw_step(settings_, w, learning_rate_, steps_);
  if (settings_.kind == OptimiserSettings::Kind::kAdamW) {
    ensure_moments(w);
    kernels::adamw(w.size(), step, w.gradient.f32(), 1.0f, w.value.f32(), w.moment1.f32(), w.moment2.f32(),
                   nullptr);
  } else {
    kernels::sgd(w.size(), step.lr, step.decay, w.gradient.f32(), 1.0f, w.value.f32(), nullptr);
  }
  w.gradient_open = false;
  ++w.version;
}

}  // namespace brood
