// recall(): what lists and dense rows of neurons have in common. neurons_recall.h has the equations.
#include "brood/autograd/neurons_recall.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "brood/base/threads.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/matmul.h"

namespace brood {

using kernels::Order;

namespace {

// Write weights stay below e^30: far from overflow, and e^30 times a rounding error is still relative to its
// own write.
constexpr double kMostFaded = 30;

}  // namespace

void Recall::plan(const Chunk& chunk, StateVar& faded) {
  Arena& memory = space->lasting(*tape);
  powers = memory.floats(T + 1);
  for (int64_t k = 0; k <= T; ++k) powers[k] = float(std::pow(fade, double(k)));
  plans = memory.allocate_array<StreamPlan>(B);
  const double rate = -std::log(fade);
  for (int64_t b = 0; b < B; ++b) {
    const bool empty = chunk.positions[b] == 0;
    const double before = empty ? 0 : double(faded.in.value()[b]), after = before + double(T) * rate;
    const bool lazy = after <= kMostFaded;
    plans[b] = {empty, float(std::exp(-before)), lazy ? 1.0f : float(std::exp(-after)), nullptr};
    if (keep) {
      faded.out.value()[b] = lazy ? float(after) : 0.0f;
      plans[b].written = memory.floats(T * D);
      for (int64_t t = 0; t < T; ++t) {
        const float weight =
            float(lazy ? std::exp(before + double(t) * rate) : std::pow(fade, double(T - t)));
        for (int64_t c = 0; c < D; ++c) plans[b].written[t * D + c] = weight * x_of(b)[t * D + c];
      }
    }
  }
}

void Recall::forward() {
  S = T > 1 ? space->lasting(*tape).floats(B * heads * T * padded) : nullptr;
  if (X.dense)
    forward_dense();
  else
    forward_lists();
}

// Keeps the strict lower triangle of the products, faded by distance.
void Recall::mask_scores(int64_t b, int64_t h) const {
  for (int64_t t = 0; t < T; ++t) {
    float* row = scores(b, h) + t * padded;
    if (fade != 1)
      for (int64_t s = 0; s < t; ++s) row[s] *= powers[t - s];
    std::memset(row + t, 0, size_t(padded - t) * sizeof(float));
  }
}

// Adds what was read from ρ, [T, D], to a.
void Recall::read_past(int64_t b, int64_t h, const float* read) const {
  for (int64_t t = 0; t < T; ++t) {
    const float scale = plans[b].read_scale * powers[t];
    float* row = a_of(b, h) + t * heads * D;
    for (int64_t c = 0; c < D; ++c) row[c] += scale * read[t * D + c];
  }
}

void Recall::rescale_rows(int64_t b, int64_t neuron, int64_t count) const {
  if (plans[b].empty)
    std::memset(rho(b, neuron), 0, size_t(count * D) * sizeof(float));
  else if (plans[b].rescale != 1)
    kernels::scale(count * D, plans[b].rescale, rho(b, neuron));
}

void Recall::write() const {
  BROOD_ASSERT(chunk_number == space->chunk_number());
  if (X.dense)
    write_dense();
  else
    write_lists();
}

// G = dS + dSᵀ, or dS [B, heads, T, padded], zero on the diagonal and in the padding.
void Recall::score_gradients(float* G) const {
  const float* da = tape->gradient(a);
  auto task = [&](int64_t i) {
    const int64_t b = i / heads, h = i % heads;
    float* g = G + i * T * padded;
    kernels::matmul(Order::kPlain, Order::kTransposed, T, T, D, da + (b * T * heads + h) * D, heads * D,
                    x_of(b), D, false, g, padded);
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t s = 0; s < t; ++s) {
        g[t * padded + s] *= powers[t - s];
        g[s * padded + t] = detached ? 0.0f : g[t * padded + s];
      }
      std::memset(g + t * padded + T, 0, size_t(padded - T) * sizeof(float));
      g[t * padded + t] = 0;
    }
  };
  parallel(B * heads, task);
}

void Recall::backward() const {
  BROOD_ASSERT(chunk_number == space->chunk_number());
  Arena& scratch = space->scratch();
  const float* da = tape->gradient(a);
  float* G = nullptr;
  if (T > 1) {
    G = scratch.floats(B * heads * T * padded);
    score_gradients(G);
    if (x.needs_gradient() && !detached) {
      float* dx = tape->gradient(x);
      auto task = [&](int64_t b) {
        for (int64_t h = 0; h < heads; ++h)
          kernels::matmul(Order::kTransposed, Order::kPlain, T, D, T, scores(b, h), padded,
                          da + (b * T * heads + h) * D, heads * D, true, dx + b * T * D, D);
      };
      parallel(B, task);
    }
  }
  float* da_scaled = scratch.floats(B * T * heads * D);
  for (int64_t r = 0; r < B * T; ++r) {
    const float scale = plans[r / T].read_scale * powers[r % T];
    for (int64_t c = 0; c < heads * D; ++c) da_scaled[r * heads * D + c] = scale * da[r * heads * D + c];
  }
  if (X.dense)
    backward_dense(scratch, G, da_scaled);
  else
    backward_lists(scratch, G, da_scaled);
}

Var recall(Tape& tape, NeuronSpace& space, const Neurons& X, Var x, const Chunk& chunk, double fade,
           bool detached, SynapseState& state) {
  BROOD_ASSERT(x.contiguous() && x.rows() == chunk.rows() && X.rows == chunk.rows() && 0 < fade && fade <= 1);
  const int64_t B = chunk.B, T = chunk.T, D = space.d_model, heads = space.heads;
  Recall op{.tape = &tape,
            .space = &space,
            .tiling = &space.tiling(chunk.rows()),
            .X = X,
            .x = x,
            .a = tape.make(B * T * heads, D, true),
            .B = B,
            .T = T,
            .padded = (T + Recall::kRowAlign - 1) / Recall::kRowAlign * Recall::kRowAlign,
            .heads = heads,
            .N = space.per_head,
            .D = D,
            .n = space.neurons(),
            .fade = fade,
            .detached = detached,
            .keep = chunk.keep_state,
            .synapses = state.synapses,
            .S = nullptr,
            .powers = nullptr,
            .plans = nullptr,
            .chunk_number = space.chunk_number()};
  op.plan(chunk, state.faded);
  op.forward();
  tape.record(op.a, [op] { op.backward(); });
  if (op.keep) {
    if (tape.recording())
      tape.at_end([op] { op.write(); });
    else if (X.dense)
      op.write();
  }
  return op.a;
}

}  // namespace brood
