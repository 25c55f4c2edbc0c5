// Steps are taken in tiles of up to kTileSteps of one stream, and within a tile a vector of channels is
// walked down the steps: its weights and last inputs stay in registers, while the rows of a tile are few
// enough for the processor to prefetch each of them. Tasks are runs of tiles, cut by shape alone. The state
// at the end is taken once all are done, since it may replace the state at the start.
//
// Backward: dp = dy through silu; then, tile by tile, what dp means for the inputs and, summed per task, for
// the weights; then the tasks' sums are added in their order.
#include "brood/kernels/conv.h"

#include <algorithm>

#include "brood/kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/conv.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "brood/kernels/vector_loop-inl.h"
#include "brood/kernels/vector_math-inl.h"

#ifndef BROOD_KERNELS_CONV_TILES
#define BROOD_KERNELS_CONV_TILES
namespace brood::kernels {
namespace {

constexpr int64_t kTileSteps = 16;

// Steps [begin, end) of stream b.
struct Tile {
  int64_t b, begin, end;
};

struct Tiles {
  int64_t per_stream, count, per_task, tasks;
  Tiles(const CausalConv& conv, int64_t numbers_per_task)
      : per_stream((conv.T + kTileSteps - 1) / kTileSteps), count(conv.B * per_stream) {
    const int64_t numbers = std::max<int64_t>(1, std::min(conv.T, kTileSteps) * conv.C);
    per_task = std::max<int64_t>(1, numbers_per_task / numbers);
    tasks = (count + per_task - 1) / per_task;
  }
  Tile at(const CausalConv& conv, int64_t i) const {
    const int64_t begin = i % per_stream * kTileSteps;
    return {i / per_stream, begin, std::min(conv.T, begin + kTileSteps)};
  }
};

// Each task of the backward pass has its own sums, so these are larger than others' tasks.
Tiles backward_tiles(const CausalConv& conv) { return {conv, 8 * kBlock}; }

// What the backward pass keeps in its scratch: weights transposed to [width][C]; per task, sums for them and
// for the bias, [width + 1][C]; dp [B·T, C] where there is a silu.
struct Scratch {
  float* weight;
  float* sums;
  float* dp;
  Scratch(const CausalConv& conv, float* memory)
      : weight(memory), sums(weight + conv.width * conv.C), dp(sums + sums_size(conv)) {}
  static int64_t sums_size(const CausalConv& conv) {
    return backward_tiles(conv).tasks * (conv.width + 1) * conv.C;
  }
  static int64_t size(const CausalConv& conv) {
    return conv.width * conv.C + sums_size(conv) + (conv.silu ? conv.B * conv.T * conv.C : 0);
  }
};

// The row of C inputs at step t of stream b; negative t reach into the state.
inline const float* input_row(const CausalConv& conv, int64_t b, int64_t t) {
  if (t >= 0) return conv.x + (b * conv.T + t) * conv.x_stride;
  return conv.state_in + (b * (conv.width - 1) + conv.width - 1 + t) * conv.C;
}

}  // namespace
}  // namespace brood::kernels
#endif  // BROOD_KERNELS_CONV_TILES

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

template <class D>
HWY_INLINE void store_output(D d, const CausalConv& conv, hn::Vec<D> p, int64_t at, float* y, float* pre) {
  if (pre != nullptr) hn::StoreU(p, d, pre + at);
  hn::StoreU(conv.silu ? hn::Mul(p, Sigmoid(d, p)) : p, d, y + at);
}

template <class D>
HWY_INLINE hn::Vec<D> bias_of(D d, const CausalConv& conv, int64_t c) {
  return conv.bias == nullptr ? hn::Zero(d) : hn::LoadU(d, conv.bias + c);
}

// One tile of one vector of channels. Width 4, Mamba's.
template <class D>
HWY_INLINE void forward_four(D d, const CausalConv& conv, const Tile& tile, int64_t c, float* y, float* pre) {
  hn::Vec<D> w0, w1, w2, w3;
  hn::LoadInterleaved4(d, conv.weight + 4 * c, w0, w1, w2, w3);
  const auto bias = bias_of(d, conv, c);
  auto x0 = hn::LoadU(d, input_row(conv, tile.b, tile.begin - 3) + c);
  auto x1 = hn::LoadU(d, input_row(conv, tile.b, tile.begin - 2) + c);
  auto x2 = hn::LoadU(d, input_row(conv, tile.b, tile.begin - 1) + c);
  for (int64_t t = tile.begin; t < tile.end; ++t) {
    const auto x3 = hn::LoadU(d, input_row(conv, tile.b, t) + c);
    const auto p = hn::MulAdd(w3, x3, hn::MulAdd(w2, x2, hn::MulAdd(w1, x1, hn::MulAdd(w0, x0, bias))));
    store_output(d, conv, p, (tile.b * conv.T + t) * conv.C + c, y, pre);
    x0 = x1, x1 = x2, x2 = x3;
  }
}

template <class D>
HWY_INLINE void forward_any(D d, const CausalConv& conv, const Tile& tile, int64_t c, float* y, float* pre) {
  const hn::RebindToSigned<D> di;
  const auto across = hn::Mul(hn::Iota(di, 0), hn::Set(di, int32_t(conv.width)));
  for (int64_t t = tile.begin; t < tile.end; ++t) {
    auto p = bias_of(d, conv, c);
    for (int64_t j = 0; j < conv.width; ++j) {
      const auto weight = hn::GatherIndex(d, conv.weight + c * conv.width + j, across);
      p = hn::MulAdd(weight, hn::LoadU(d, input_row(conv, tile.b, t - conv.width + 1 + j) + c), p);
    }
    store_output(d, conv, p, (tile.b * conv.T + t) * conv.C + c, y, pre);
  }
}

void forward_tile(const CausalConv& conv, const Tile& tile, float* y, float* pre) {
  for_each_vector(0, conv.C, [&](auto d, int64_t c) HWY_ATTR {
    if (conv.width == 4)
      forward_four(d, conv, tile, c, y, pre);
    else
      forward_any(d, conv, tile, c, y, pre);
  });
}

// ---- Backward ----

void pre_gradient(int64_t begin, int64_t end, const float* pre, const float* dy, float* dp) {
  for_each_vector(begin, end, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, dy + i), SiluSlope(d, hn::LoadU(d, pre + i))), d, dp + i);
  });
}

void transpose_weight(const CausalConv& conv, float* weight) {
  if (conv.width != 4) {
    for (int64_t c = 0; c < conv.C; ++c)
      for (int64_t j = 0; j < conv.width; ++j) weight[j * conv.C + c] = conv.weight[c * conv.width + j];
    return;
  }
  for_each_vector(0, conv.C, [&](auto d, int64_t c) HWY_ATTR {
    hn::Vec<decltype(d)> w0, w1, w2, w3;
    hn::LoadInterleaved4(d, conv.weight + 4 * c, w0, w1, w2, w3);
    hn::StoreU(w0, d, weight + c);
    hn::StoreU(w1, d, weight + conv.C + c);
    hn::StoreU(w2, d, weight + 2 * conv.C + c);
    hn::StoreU(w3, d, weight + 3 * conv.C + c);
  });
}

// to += the gradient that the input at step t of stream b (from the state where negative) has through its
// outputs: Σ_j weight[j]·dp_{t + width − 1 − j}.
void input_gradient(const CausalConv& conv, const float* weight, const float* dp, int64_t b, int64_t t,
                    float* to) {
  const float* stream = dp + b * conv.T * conv.C;
  const int64_t newest = t + conv.width - 1;  // the last output that sees this input
  const int64_t first_j = std::max<int64_t>(0, newest - (conv.T - 1));
  const int64_t last_j = std::min(conv.width - 1, newest);
  for_each_vector(0, conv.C, [&](auto d, int64_t c) HWY_ATTR {
    auto sum = hn::LoadU(d, to + c);
    for (int64_t j = last_j; j >= first_j; --j)
      sum = hn::MulAdd(hn::LoadU(d, weight + j * conv.C + c),
                       hn::LoadU(d, stream + (newest - j) * conv.C + c), sum);
    hn::StoreU(sum, d, to + c);
  });
}

// The same for steps of width 4 whose outputs all lie in the chunk.
void input_gradient_four(const CausalConv& conv, const float* weight, const float* dp, const Tile& tile,
                         float* dx, int64_t dx_stride) {
  for_each_vector(0, conv.C, [&](auto d, int64_t c) HWY_ATTR {
    const auto w0 = hn::LoadU(d, weight + c);
    const auto w1 = hn::LoadU(d, weight + conv.C + c);
    const auto w2 = hn::LoadU(d, weight + 2 * conv.C + c);
    const auto w3 = hn::LoadU(d, weight + 3 * conv.C + c);
    const float* ahead = dp + tile.b * conv.T * conv.C + c;
    auto p0 = hn::LoadU(d, ahead + tile.begin * conv.C);
    auto p1 = hn::LoadU(d, ahead + (tile.begin + 1) * conv.C);
    auto p2 = hn::LoadU(d, ahead + (tile.begin + 2) * conv.C);
    for (int64_t t = tile.begin; t < tile.end; ++t) {
      const auto p3 = hn::LoadU(d, ahead + (t + 3) * conv.C);
      float* to = dx + (tile.b * conv.T + t) * dx_stride + c;
      const auto sum = hn::MulAdd(w3, p0, hn::LoadU(d, to));
      hn::StoreU(hn::MulAdd(w0, p3, hn::MulAdd(w1, p2, hn::MulAdd(w2, p1, sum))), d, to);
      p0 = p1, p1 = p2, p2 = p3;
    }
  });
}

void chunk_gradient(const CausalConv& conv, const float* weight, const float* dp, const Tile& tile, float* dx,
                    int64_t dx_stride) {
  int64_t t = tile.begin;
  const int64_t inner = std::min(tile.end, conv.T - 3);
  if (conv.width == 4 && t < inner) {
    input_gradient_four(conv, weight, dp, {tile.b, t, inner}, dx, dx_stride);
    t = inner;
  }
  for (; t < tile.end; ++t)
    input_gradient(conv, weight, dp, tile.b, t, dx + (tile.b * conv.T + t) * dx_stride);
}

// What the states' gradients add, for stream b: each input still in state_out gets dstate_out's share.
void state_gradient(const CausalConv& conv, const float* weight, const float* dp, const float* dstate_out,
                    int64_t b, float* dx, int64_t dx_stride, float* dstate_in) {
  const int64_t kept = conv.width - 1;
  float* dstate = dstate_in == nullptr ? nullptr : dstate_in + b * kept * conv.C;
  if (dstate != nullptr)
    for (int64_t s = 0; s < kept; ++s) input_gradient(conv, weight, dp, b, s - kept, dstate + s * conv.C);
  if (dstate_out == nullptr) return;
  for (int64_t s = 0; s < kept; ++s) {
    const int64_t t = conv.T - kept + s;
    const float* from = dstate_out + (b * kept + s) * conv.C;
    float* to = nullptr;
    if (t >= 0 && dx != nullptr) to = dx + (b * conv.T + t) * dx_stride;
    if (t < 0 && dstate != nullptr) to = dstate + (t + kept) * conv.C;
    if (to == nullptr) continue;
    for_each_vector(0, conv.C, [&](auto d, int64_t c) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, to + c), hn::LoadU(d, from + c)), d, to + c);
    });
  }
}

// sums[j] += Σ dp_t·x_{t − width + 1 + j}, sums[width] += Σ dp_t over a tile.
void parameter_sums_any(const CausalConv& conv, const float* dp, const Tile& tile, float* sums) {
  for_each_vector(0, conv.C, [&](auto d, int64_t c) HWY_ATTR {
    for (int64_t j = 0; j <= conv.width; ++j) {
      auto sum = hn::LoadU(d, sums + j * conv.C + c);
      for (int64_t t = tile.begin; t < tile.end; ++t) {
        const auto p = hn::LoadU(d, dp + (tile.b * conv.T + t) * conv.C + c);
        if (j == conv.width)
          sum = hn::Add(sum, p);
        else
          sum = hn::MulAdd(p, hn::LoadU(d, input_row(conv, tile.b, t - conv.width + 1 + j) + c), sum);
      }
      hn::StoreU(sum, d, sums + j * conv.C + c);
    }
  });
}

void parameter_sums_four(const CausalConv& conv, const float* dp, const Tile& tile, float* sums) {
  const int64_t C = conv.C;
  for_each_vector(0, C, [&](auto d, int64_t c) HWY_ATTR {
    auto s0 = hn::LoadU(d, sums + c), s1 = hn::LoadU(d, sums + C + c), s2 = hn::LoadU(d, sums + 2 * C + c);
    auto s3 = hn::LoadU(d, sums + 3 * C + c), bias = hn::LoadU(d, sums + 4 * C + c);
    auto x0 = hn::LoadU(d, input_row(conv, tile.b, tile.begin - 3) + c);
    auto x1 = hn::LoadU(d, input_row(conv, tile.b, tile.begin - 2) + c);
    auto x2 = hn::LoadU(d, input_row(conv, tile.b, tile.begin - 1) + c);
    for (int64_t t = tile.begin; t < tile.end; ++t) {
      const auto x3 = hn::LoadU(d, input_row(conv, tile.b, t) + c);
      const auto p = hn::LoadU(d, dp + (tile.b * conv.T + t) * C + c);
      s0 = hn::MulAdd(p, x0, s0), s1 = hn::MulAdd(p, x1, s1), s2 = hn::MulAdd(p, x2, s2),
      s3 = hn::MulAdd(p, x3, s3);
      bias = hn::Add(bias, p);
      x0 = x1, x1 = x2, x2 = x3;
    }
    hn::StoreU(s0, d, sums + c), hn::StoreU(s1, d, sums + C + c), hn::StoreU(s2, d, sums + 2 * C + c);
    hn::StoreU(s3, d, sums + 3 * C + c), hn::StoreU(bias, d, sums + 4 * C + c);
  });
}

// The first of `tasks` sums of n numbers receives them all, in order.
void add_tasks(int64_t tasks, int64_t n, float* sums) {
  for (int64_t task = 1; task < tasks; ++task)
    for_each_vector(0, n, [&](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, sums + i), hn::LoadU(d, sums + task * n + i)), d, sums + i);
    });
}

void add_parameters(const CausalConv& conv, const float* sums, float* dweight, float* dbias) {
  const int64_t C = conv.C;
  for_each_vector(0, C, [&](auto d, int64_t c) HWY_ATTR {
    if (dbias != nullptr)
      hn::StoreU(hn::Add(hn::LoadU(d, dbias + c), hn::LoadU(d, sums + conv.width * C + c)), d, dbias + c);
    if (dweight == nullptr || conv.width != 4) return;
    hn::Vec<decltype(d)> w0, w1, w2, w3;
    hn::LoadInterleaved4(d, dweight + 4 * c, w0, w1, w2, w3);
    w0 = hn::Add(w0, hn::LoadU(d, sums + c)), w1 = hn::Add(w1, hn::LoadU(d, sums + C + c));
    w2 = hn::Add(w2, hn::LoadU(d, sums + 2 * C + c)), w3 = hn::Add(w3, hn::LoadU(d, sums + 3 * C + c));
    hn::StoreInterleaved4(w0, w1, w2, w3, d, dweight + 4 * c);
  });
  if (dweight == nullptr || conv.width == 4) return;
  for (int64_t c = 0; c < C; ++c)
    for (int64_t j = 0; j < conv.width; ++j) dweight[c * conv.width + j] += sums[j * C + c];
}

void backward_tile(const CausalConv& conv, const float* weight, const float* dp, const Tile& tile, float* dx,
                   int64_t dx_stride, float* sums) {
  if (dx != nullptr) chunk_gradient(conv, weight, dp, tile, dx, dx_stride);
  if (sums == nullptr) return;
  if (conv.width == 4)
    parameter_sums_four(conv, dp, tile, sums);
  else
    parameter_sums_any(conv, dp, tile, sums);
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {
HWY_EXPORT(forward_tile);
HWY_EXPORT(pre_gradient);
HWY_EXPORT(transpose_weight);
HWY_EXPORT(backward_tile);
HWY_EXPORT(state_gradient);
HWY_EXPORT(add_tasks);
HWY_EXPORT(add_parameters);

namespace {

// The last width−1 inputs of stream b, copied oldest first, so that state_out may be state_in.
void store_state(const CausalConv& conv, int64_t b, float* state_out) {
  for (int64_t s = 0; s < conv.width - 1; ++s) {
    const float* from = input_row(conv, b, conv.T - conv.width + 1 + s);
    float* to = state_out + (b * (conv.width - 1) + s) * conv.C;
    if (from != to) std::copy(from, from + conv.C, to);
  }
}

// What the tiles' dp means for the inputs, and for the parameters unless both are null.
void run_backward_tiles(const CausalConv& conv, const Scratch& scratch, const float* dp, float* dx,
                        int64_t dx_stride, float* dweight, float* dbias) {
  const Tiles tiles = backward_tiles(conv);
  const int64_t n = (conv.width + 1) * conv.C;
  const bool parameters = dweight != nullptr || dbias != nullptr;
  parallel(tiles.tasks, [&](int64_t task) {
    float* sums = parameters ? scratch.sums + task * n : nullptr;
    if (parameters) std::fill(sums, sums + n, 0.0f);
    for (int64_t i = task * tiles.per_task; i < std::min(tiles.count, (task + 1) * tiles.per_task); ++i)
      HWY_DYNAMIC_DISPATCH(backward_tile)(conv, scratch.weight, dp, tiles.at(conv, i), dx, dx_stride, sums);
  });
  if (!parameters) return;
  HWY_DYNAMIC_DISPATCH(add_tasks)(tiles.tasks, n, scratch.sums);
  HWY_DYNAMIC_DISPATCH(add_parameters)(conv, scratch.sums, dweight, dbias);
}

}  // namespace

void causal_conv_forward(const CausalConv& conv, float* y, float* pre, float* state_out) {
  const Tiles tiles(conv, kBlock);
  parallel(tiles.tasks, [&](int64_t task) {
    for (int64_t i = task * tiles.per_task; i < std::min(tiles.count, (task + 1) * tiles.per_task); ++i)
      HWY_DYNAMIC_DISPATCH(forward_tile)(conv, tiles.at(conv, i), y, pre);
  });
  for (int64_t b = 0; b < conv.B; ++b) store_state(conv, b, state_out);
}

int64_t causal_conv_scratch(const CausalConv& conv) { return Scratch::size(conv); }

void causal_conv_backward(const CausalConv& conv, const float* pre, const float* dy, const float* dstate_out,
                          float* dx, int64_t dx_stride, float* dweight, float* dbias, float* dstate_in,
                          float* scratch_memory) {
  const Scratch scratch(conv, scratch_memory);
  const int64_t n = conv.B * conv.T * conv.C;
  HWY_DYNAMIC_DISPATCH(transpose_weight)(conv, scratch.weight);
  if (conv.silu)
    parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(pre_gradient)(begin, end, pre, dy, scratch.dp);
    });
  const float* dp = conv.silu ? scratch.dp : dy;
  run_backward_tiles(conv, scratch, dp, dx, dx_stride, dweight, dbias);
  parallel_rows(conv.B, conv.width * conv.C, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      HWY_DYNAMIC_DISPATCH(state_gradient)(conv, scratch.weight, dp, dstate_out, b, dx, dx_stride, dstate_in);
  });
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
