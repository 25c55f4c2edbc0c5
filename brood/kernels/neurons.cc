#include "brood/kernels/neurons.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/neurons.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;

uint32_t ReluCountTile(int64_t n, float threshold, float* x) {
  const Tag d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto zero = hn::Zero(d), least = hn::Set(d, threshold);
  uint32_t count = 0;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::Max(hn::Sub(hn::LoadU(d, x + i), least), zero);
    count += uint32_t(hn::CountTrue(d, hn::Gt(v, zero)));
    hn::StoreU(v, d, x + i);
  }
  for (; i < n; ++i) {
    x[i] = std::max(x[i] - threshold, 0.0f);
    count += x[i] > 0;
  }
  return count;
}

void ReluMask(int64_t n, const float* x, float* dx) {
  const Tag d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto awake = hn::Gt(hn::LoadU(d, x + i), hn::Zero(d));
    hn::StoreU(hn::IfThenElseZero(awake, hn::LoadU(d, dx + i)), d, dx + i);
  }
  for (; i < n; ++i)
    if (!(x[i] > 0)) dx[i] = 0;
}

int64_t GateForward(int64_t n, const float* x, float* y, float* z) {
  const Tag d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto zero = hn::Zero(d);
  int64_t count = 0, i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto vx = hn::LoadU(d, x + i), vy = hn::Max(hn::LoadU(d, y + i), zero);
    count += int64_t(hn::CountTrue(d, hn::And(hn::Gt(vx, zero), hn::Gt(vy, zero))));
    hn::StoreU(vy, d, y + i);
    hn::StoreU(hn::Mul(vx, vy), d, z + i);
  }
  for (; i < n; ++i) {
    y[i] = std::max(y[i], 0.0f);
    z[i] = x[i] * y[i];
    count += x[i] > 0 && y[i] > 0;
  }
  return count;
}

void GateBackward(int64_t n, const float* x, const float* y, float* dz, float* dx) {
  const Tag d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto vx = hn::LoadU(d, x + i), vy = hn::LoadU(d, y + i), g = hn::LoadU(d, dz + i);
    hn::StoreU(hn::MulAdd(g, vy, hn::LoadU(d, dx + i)), d, dx + i);
    hn::StoreU(hn::IfThenElseZero(hn::Gt(vy, hn::Zero(d)), hn::Mul(g, vx)), d, dz + i);
  }
  for (; i < n; ++i) {
    dx[i] += dz[i] * y[i];
    dz[i] = y[i] > 0 ? dz[i] * x[i] : 0.0f;
  }
}

// room: entries from here on that may be overwritten, those of the tile's later steps. Whole vectors are stored
// where they fit: storing under a mask that packs takes many times as long.
void PackTile(int64_t n, const float* x, uint32_t first, uint32_t room, float* value, uint32_t* index) {
  const Tag d;
  const hn::RebindToUnsigned<Tag> du;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t count = 0, i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    const auto awake = hn::Gt(v, hn::Zero(d));
    const auto awake_u = hn::RebindMask(du, awake);
    const auto place = hn::Iota(du, first + uint32_t(i));
    if (count + lanes <= int64_t(room)) {
      hn::StoreU(hn::Compress(v, awake), d, value + count);
      hn::StoreU(hn::Compress(place, awake_u), du, index + count);
      count += int64_t(hn::CountTrue(d, awake));
    } else {
      hn::CompressBlendedStore(v, awake, d, value + count);
      count += int64_t(hn::CompressBlendedStore(place, awake_u, du, index + count));
    }
  }
  for (; i < n; ++i) {
    if (!(x[i] > 0)) continue;
    value[count] = x[i];
    index[count++] = first + uint32_t(i);
  }
}

void ReluCount(int64_t tiles, const int64_t* begin, float threshold, float* x, uint32_t* count,
               int64_t stride) {
  for (int64_t t = 0; t < tiles; ++t)
    count[t * stride] = ReluCountTile(begin[t + 1] - begin[t], threshold, x + begin[t] - begin[0]);
}

void PackAwake(int64_t tiles, const int64_t* begin, const float* x, const uint32_t* offset, int64_t stride,
               int64_t steps, float* value, uint32_t* index) {
  for (int64_t t = 0; t < tiles; ++t) {
    const uint32_t at = offset[t * stride], room = offset[t * stride + steps] - at;
    PackTile(begin[t + 1] - begin[t], x + begin[t] - begin[0], uint32_t(begin[t]), room, value + at,
             index + at);
  }
}

// One step of a tile, before dropout. Returns the number of gated entries.
uint32_t GateStep(uint32_t begin, uint32_t end, const uint32_t* from, const float* x, const float* y,
                  uint32_t* index, float* value, uint32_t* place) {
  const Tag d;
  const hn::RebindToUnsigned<Tag> du;
  const uint32_t lanes = uint32_t(hn::Lanes(d));
  uint32_t count = 0;
  for (uint32_t k = begin; k < end; k += lanes) {
    const auto present = hn::FirstN(d, std::min(lanes, end - k));
    const auto vy = hn::LoadU(d, y + k);
    const auto open = hn::And(hn::Gt(vy, hn::Zero(d)), present);
    const auto open_u = hn::RebindMask(du, open);
    hn::StoreU(hn::Compress(hn::Mul(hn::LoadU(d, x + k), vy), open), d, value + count);
    hn::StoreU(hn::Compress(hn::LoadU(du, from + k), open_u), du, index + count);
    hn::StoreU(hn::Compress(hn::Iota(du, k), open_u), du, place + count);
    count += uint32_t(hn::CountTrue(d, open));
  }
  return count;
}

#if HWY_TARGET == HWY_SCALAR

void DropListed(uint32_t count, const uint32_t* index, uint64_t first, uint64_t seed, float rate,
                float* value) {
  for (uint32_t k = 0; k < count; ++k) value[k] *= dropout_factor(seed, first + index[k], rate);
}

#else

// The low 64 bits of products. Few targets have them as an instruction; two 32-bit halves do.
template <class V64>
HWY_INLINE V64 Multiply(V64 a, uint64_t b) {
  const hn::DFromV<V64> d;
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  return hn::Mul(a, hn::Set(d, b));
#else
  const hn::Repartition<uint32_t, decltype(d)> halves;
  const auto low = hn::BitCast(halves, hn::Set(d, b & 0xffffffffu)),
             high = hn::BitCast(halves, hn::Set(d, b >> 32));
  const auto a_low = hn::BitCast(halves, a), a_high = hn::BitCast(halves, hn::ShiftRight<32>(a));
  const auto cross = hn::Add(hn::MulEven(a_low, high), hn::MulEven(a_high, low));
  return hn::Add(hn::MulEven(a_low, low), hn::ShiftLeft<32>(cross));
#endif
}

// value[k] *= dropout_factor(seed, first + index[k], rate), whole vectors at a time.
void DropListed(uint32_t count, const uint32_t* index, uint64_t first, uint64_t seed, float rate,
                float* value) {
  const hn::ScalableTag<uint64_t> d;
  const hn::Rebind<uint32_t, decltype(d)> places;
  const hn::Rebind<int32_t, decltype(d)> draws;
  const hn::Rebind<float, decltype(d)> values;
  const uint32_t lanes = uint32_t(hn::Lanes(d));
  // The 24 bits drawn are a whole number, below rate·2^24 where the entry is dropped.
  const auto least = hn::Set(draws, int32_t(std::ceil(double(rate) * 0x1p24)));
  const auto scale = hn::Set(values, 1.0f / (1.0f - rate));
  const auto origin = hn::Set(d, first + 1);
  for (uint32_t k = 0; k < count; k += lanes) {
    const auto place = hn::Add(hn::PromoteTo(d, hn::LoadU(places, index + k)), origin);
    auto h = hn::Add(Multiply(place, 0x9e3779b97f4a7c15ull), hn::Set(d, seed));
    h = Multiply(hn::Xor(h, hn::ShiftRight<30>(h)), 0xbf58476d1ce4e5b9ull);
    h = Multiply(hn::Xor(h, hn::ShiftRight<27>(h)), 0x94d049bb133111ebull);
    h = hn::Xor(h, hn::ShiftRight<31>(h));
    const auto drawn = hn::BitCast(draws, hn::TruncateTo(places, hn::ShiftRight<40>(h)));
    const auto dropped = hn::RebindMask(values, hn::Lt(drawn, least));
    const auto left = hn::Mul(hn::LoadU(values, value + k), scale);
    hn::BlendedStore(hn::IfThenZeroElse(dropped, left), hn::FirstN(values, count - k), values, value + k);
  }
}

#endif

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(ReluCount);
HWY_EXPORT(ReluMask);
HWY_EXPORT(GateForward);
HWY_EXPORT(GateBackward);
HWY_EXPORT(PackAwake);
HWY_EXPORT(GateStep);
HWY_EXPORT(DropListed);

void relu_count(int64_t tiles, const int64_t* begin, float threshold, float* x, uint32_t* count,
                int64_t stride) {
  HWY_DYNAMIC_DISPATCH(ReluCount)(tiles, begin, threshold, x, count, stride);
}
void pack_awake(int64_t tiles, const int64_t* begin, const float* x, const uint32_t* offset, int64_t stride,
                int64_t steps, float* value, uint32_t* index) {
  HWY_DYNAMIC_DISPATCH(PackAwake)(tiles, begin, x, offset, stride, steps, value, index);
}
void relu_mask(int64_t n, const float* x, float* dx) { HWY_DYNAMIC_DISPATCH(ReluMask)(n, x, dx); }
int64_t gate_forward(int64_t n, const float* x, float* y, float* z) {
  return HWY_DYNAMIC_DISPATCH(GateForward)(n, x, y, z);
}
void gate_backward(int64_t n, const float* x, const float* y, float* dz, float* dx) {
  HWY_DYNAMIC_DISPATCH(GateBackward)(n, x, y, dz, dx);
}

// The finaliser of splitmix64 (Steele, Lea and Flood 2014) over seed and place.
float dropout_factor(uint64_t seed, uint64_t place, float rate) {
  uint64_t h = seed + 0x9e3779b97f4a7c15ull * (place + 1);
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ull;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebull;
  h ^= h >> 31;
  const float uniform = float(h >> 40) * 0x1p-24f;
  return uniform < rate ? 0.0f : 1.0f / (1.0f - rate);
}

void drop_out(int64_t n, uint64_t seed, uint64_t first, float rate, float* x) {
  for (int64_t i = 0; i < n; ++i) x[i] *= dropout_factor(seed, first + uint64_t(i), rate);
}

int64_t gate_lists(const RowLists& lists, const float* x, const float* y, const Gating& gating,
                   GatedTile& gated) {
  gated.steps = lists.rows;
  gated.base = lists.base;
  gated.width = lists.width;
  const auto gate_step = HWY_DYNAMIC_DISPATCH(GateStep);
  const auto drop = HWY_DYNAMIC_DISPATCH(DropListed);
  uint32_t count = 0;
  int64_t above = 0;
  for (int64_t r = 0; r < lists.rows; ++r) {
    gated.offset[r] = count;
    if (!gating.all) {
      const uint32_t added = gate_step(lists.offset[r], lists.offset[r + 1], lists.index, x, y,
                                       gated.index + count, gated.value + count, gated.place + count);
      if (gating.dropout > 0)
        drop(added, gated.index + count, gating.place(r), gating.seed, gating.dropout, gated.value + count);
      count += added;
      above += added;
      continue;
    }
    for (uint32_t k = lists.offset[r]; k < lists.offset[r + 1]; ++k) {
      // Written always, kept when gated: no branch, which half of the entries would mispredict.
      gated.index[count] = lists.index[k];
      gated.value[count] = x[k] * std::max(y[k], 0.0f) * gating.factor(r, lists.index[k]);
      gated.place[count] = k;
      count += (y[k] > 0) | gating.all;
      above += y[k] > 0 && x[k] > 0;
    }
  }
  gated.offset[lists.rows] = count;
  return above;
}

void gate_lists_backward(const GatedTile& gated, const float* x, const float* y, const Gating& gating,
                         float* dvalue, float* dx) {
  const auto drop = HWY_DYNAMIC_DISPATCH(DropListed);
  for (int64_t r = 0; r < gated.steps; ++r) {
    const uint32_t begin = gated.offset[r], end = gated.offset[r + 1];
    if (gating.dropout > 0)
      drop(end - begin, gated.index + begin, gating.place(r), gating.seed, gating.dropout, dvalue + begin);
    for (uint32_t i = begin; i < end; ++i) {
      const uint32_t k = gated.place[i];
      dx[k] += dvalue[i] * std::max(y[k], 0.0f);
      dvalue[i] = y[k] > 0 ? dvalue[i] * x[k] : 0.0f;
    }
  }
}

}  // namespace brood::kernels
#endif
