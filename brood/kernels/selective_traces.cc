// The traces of the selective scan. A vector of channels goes through a tile of steps: first what its states share, then
// state by state the decays and what each step adds, which all traces of the state then read.
#include "brood/kernels/selective_traces.h"

#include <algorithm>

#include "brood/kernels/channel_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/selective_traces.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/selective_scan-inl.h"
#include "brood/kernels/vector_loop-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

constexpr int64_t kSlot = 16, kTile = kScanCheckpoint;

// Of a vector of channels, a slot a step.
struct Tile {
  HWY_ALIGN float delta[kTile * kSlot], slope[kTile * kSlot], x[kTile * kSlot];
  // Of one state: a_t, and what the traces of A and of bias gain.
  HWY_ALIGN float decay[kTile * kSlot], by_decay[kTile * kSlot], by_delta[kTile * kSlot];
};

template <class D>
void prepare(D d, const SelectiveScan& s, int64_t row, int64_t steps, int64_t c, Tile& tile) {
  const auto bias = hn::LoadU(d, s.delta_bias + c);
  for (int64_t t = 0; t < steps; ++t) {
    const int64_t at = (row + t) * s.C + c;
    hn::Vec<D> slope;
    hn::Store(Softplus(d, hn::Add(hn::LoadU(d, s.delta + at), bias), slope), d, tile.delta + t * kSlot);
    hn::Store(slope, d, tile.slope + t * kSlot);
    hn::Store(hn::LoadU(d, s.x + at), d, tile.x + t * kSlot);
  }
}

// State n through a tile; h: its slot.
template <class D>
void advance_state(D d, const SelectiveScan& s, int64_t row, int64_t steps, int64_t n, int64_t c, float* h_at,
                   Tile& tile) {
  const auto A = hn::LoadU(d, s.A + n * s.C + c);
  auto h = hn::Load(d, h_at);
  for (int64_t t = 0; t < steps; ++t) {
    const auto delta = hn::Load(d, tile.delta + t * kSlot), x = hn::Load(d, tile.x + t * kSlot);
    const auto decay = Power2(d, hn::Mul(hn::Mul(delta, hn::Set(d, kLog2E)), A));
    const auto kept = hn::Mul(decay, h);
    const auto B = hn::Set(d, s.input[(row + t) * s.bc_stride + n]);
    hn::Store(decay, d, tile.decay + t * kSlot);
    hn::Store(hn::Mul(delta, kept), d, tile.by_decay + t * kSlot);
    hn::Store(hn::Mul(hn::Load(d, tile.slope + t * kSlot), hn::MulAdd(A, kept, hn::Mul(x, B))), d,
              tile.by_delta + t * kSlot);
    h = hn::MulAdd(hn::Mul(delta, x), B, kept);  // as the scan rounds it
  }
  hn::Store(h, d, h_at);
}

// K traces of state n of W's columns from j.
template <int K, class D>
HWY_INLINE void advance_columns(D d, const LowRank& w, int64_t row, int64_t steps, int64_t j, int64_t apart,
                                const float* in, float* out, const Tile& tile) {
  hn::Vec<D> e[K];
  for (int k = 0; k < K; ++k) e[k] = hn::LoadU(d, in + k * apart);
  for (int64_t t = 0; t < steps; ++t) {
    const auto decay = hn::Load(d, tile.decay + t * kSlot), by_delta = hn::Load(d, tile.by_delta + t * kSlot);
    const float* low = w.low.row(row + t) + j;
    for (int k = 0; k < K; ++k) e[k] = hn::MulAdd(decay, e[k], hn::Mul(by_delta, hn::Set(d, low[k])));
  }
  for (int k = 0; k < K; ++k) hn::StoreU(e[k], d, out + k * apart);
}

template <class D>
HWY_INLINE void advance_traces(D d, const LowRank& w, int64_t row, int64_t steps, int64_t apart,
                               const float* in, float* out, const Tile& tile) {
  auto of_A = hn::LoadU(d, in), of_bias = hn::LoadU(d, in + apart);
  for (int64_t t = 0; t < steps; ++t) {
    const auto decay = hn::Load(d, tile.decay + t * kSlot);
    of_A = hn::MulAdd(decay, of_A, hn::Load(d, tile.by_decay + t * kSlot));
    of_bias = hn::MulAdd(decay, of_bias, hn::Load(d, tile.by_delta + t * kSlot));
  }
  hn::StoreU(of_A, d, out);
  hn::StoreU(of_bias, d, out + apart);
  in += 2 * apart;
  out += 2 * apart;
  int64_t j = 0;
  for (; j + 4 <= w.rank; j += 4)
    advance_columns<4>(d, w, row, steps, j, apart, in + j * apart, out + j * apart, tile);
  for (; j < w.rank; ++j)
    advance_columns<1>(d, w, row, steps, j, apart, in + j * apart, out + j * apart, tile);
}

// All steps of stream b for the channels [begin, end).
void forward(const SelectiveScan& s, const LowRank& w, int64_t b, int64_t begin, int64_t end, const float* in,
             float* out) {
  HWY_ALIGN float h[kScanMaxStates * kSlot];
  Tile tile;
  const int64_t states = s.N * s.C, first = b * (2 + w.rank) * states;
  for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
    for (int64_t n = 0; n < s.N; ++n)
      hn::Store(hn::LoadU(d, s.h_in + b * states + n * s.C + c), d, h + n * kSlot);
    const float* from = in;
    for (int64_t t = 0; t < s.T; t += kTile) {
      const int64_t row = b * s.T + t, steps = std::min(kTile, s.T - t);
      prepare(d, s, row, steps, c, tile);
      for (int64_t n = 0; n < s.N; ++n) {
        const int64_t at = first + n * s.C + c;
        advance_state(d, s, row, steps, n, c, h + n * kSlot, tile);
        advance_traces(d, w, row, steps, states, from + at, out + at, tile);
      }
      from = out;
    }
  });
}

void backward(const SelectiveScan& s, const LowRank& w, int64_t begin, int64_t end, const float* traces,
              const float* dh_in, float* dA, float* dbias, float* dw) {
  const int64_t states = s.N * s.C;
  for_each_vector(begin, end, [&](auto d, int64_t c) HWY_ATTR {
    for (int64_t b = 0; b < s.B; ++b) {
      const float *g = dh_in + b * states + c, *e = traces + b * (2 + w.rank) * states + c;
      for (int64_t n = 0; n < s.N; ++n) {
        float* to = dA + n * s.C + c;
        hn::StoreU(hn::MulAdd(hn::LoadU(d, g + n * s.C), hn::LoadU(d, e + n * s.C), hn::LoadU(d, to)), d, to);
      }
      for (int64_t k = 1; k < 2 + w.rank; ++k) {
        auto sum = hn::Zero(d);
        for (int64_t n = 0; n < s.N; ++n)
          sum = hn::MulAdd(hn::LoadU(d, g + n * s.C), hn::LoadU(d, e + k * states + n * s.C), sum);
        if (k == 1) {
          hn::StoreU(hn::Add(hn::LoadU(d, dbias + c), sum), d, dbias + c);
          continue;
        }
        HWY_ALIGN float lanes[kSlot];
        hn::Store(sum, d, lanes);
        for (size_t i = 0; i < hn::Lanes(d); ++i) dw[(c + int64_t(i)) * w.rank + k - 2] += lanes[i];
      }
    }
  });
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(forward);
HWY_EXPORT(backward);

void selective_traces_forward(const SelectiveScan& s, const LowRank& w, const float* in, float* out) {
  const bool pays = s.B * s.T * s.C * s.N * (4 + w.rank) >= 200'000;  // some 0.1 ns each
  const auto run = HWY_DYNAMIC_DISPATCH(forward);
  for_every_channel_block(s.B, s.C, kChannelBlock, pays,
                          [&](int64_t b, int64_t begin, int64_t end) { run(s, w, b, begin, end, in, out); });
}

void selective_traces_backward(const SelectiveScan& s, const LowRank& w, const float* traces,
                               const float* dh_in, float* dA, float* dbias, float* dw) {
  const bool pays = s.B * s.C * s.N * (2 + w.rank) >= 100'000;  // some 0.2 ns each
  const auto run = HWY_DYNAMIC_DISPATCH(backward);
  for_every_channel_block(1, s.C, kChannelBlock, pays, [&](int64_t, int64_t begin, int64_t end) {
    run(s, w, begin, end, traces, dh_in, dA, dbias, dw);
  });
}

}  // namespace brood::kernels
#endif
