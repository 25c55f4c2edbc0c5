// Of neurons.h: lists of awake neurons, turned pair by pair.
#include <algorithm>

#include "brood/kernels/neurons.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/rotate_lists.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;

// The entries before k, k + 1, ...; none before the list's first.
template <class D>
HWY_INLINE hn::Vec<D> Before(D d, const uint32_t* index, uint32_t k, uint32_t begin) {
  if (k > begin) return hn::LoadU(d, index + k - 1);
  const auto none = hn::Set(d, 0x80000000u);
  if (k > 0) return hn::IfThenElse(hn::FirstN(d, 1), none, hn::LoadU(d, index + k - 1));
  HWY_ALIGN uint32_t shifted[hn::MaxLanes(D()) + 1];
  hn::StoreU(none, d, shifted);
  hn::StoreU(hn::LoadU(d, index), d, shifted + 1);
  return hn::Load(d, shifted);
}

// One step of a tile. Entries come in ascending order, so a pair with both neurons awake is two neighbours:
// the even one leads and takes the odd one's value along. Every leader becomes the two entries of its pair.
// Returns their number.
uint32_t RotateStep(const RowLists& lists, int64_t step, const float* value, const float* angles,
                    int64_t angle_tile, uint32_t* index, float* rotated) {
  const Tag d;
  const hn::RebindToUnsigned<Tag> du;
  const hn::RebindToSigned<Tag> di;
  const uint32_t lanes = uint32_t(hn::Lanes(d));
  const uint32_t begin = lists.offset[step], end = lists.offset[step + 1];
  const auto one = hn::Set(du, 1), base = hn::Set(du, uint32_t(lists.base)), none = hn::Set(du, ~uint32_t(1));
  uint32_t count = 0;
  for (uint32_t k = begin; k < end; k += lanes) {
    const size_t left = end - k;
    const auto present = hn::FirstN(du, std::min<size_t>(left, lanes));
    const auto at = hn::IfThenElseZero(present, hn::Sub(hn::LoadU(du, lists.index + k), base));
    const auto after = hn::IfThenElse(hn::FirstN(du, std::min<size_t>(left - 1, lanes)),
                                      hn::Sub(hn::LoadU(du, lists.index + k + 1), base), none);
    const auto odd = hn::Eq(hn::And(at, one), one);
    const auto both = hn::And(hn::Not(odd), hn::Eq(after, hn::Add(at, one)));
    const auto own = hn::LoadU(d, value + k), next = hn::LoadU(d, value + k + 1);
    const auto x_even = hn::IfThenZeroElse(hn::RebindMask(d, odd), own);
    const auto x_odd =
        hn::IfThenElse(hn::RebindMask(d, odd), own, hn::IfThenElseZero(hn::RebindMask(d, both), next));

    const auto pair = hn::ShiftRight<1>(at);
    const auto place =
        hn::Add(hn::Mul(hn::ShiftRight<kTilePairBits>(pair), hn::Set(du, uint32_t(angle_tile))),
                hn::And(pair, hn::Set(du, uint32_t(kRotaryPairs - 1))));
    const auto c = hn::GatherIndex(d, angles, hn::BitCast(di, place));
    const auto s = hn::GatherIndex(d, angles + kRotaryPairs, hn::BitCast(di, place));
    const auto turned_even = hn::NegMulAdd(x_odd, s, hn::Mul(x_even, c));
    const auto turned_odd = hn::MulAdd(x_even, s, hn::Mul(x_odd, c));

    // An odd entry whose even neighbour stands before it in the list has been taken along.
    const auto before = Before(du, lists.index, k, begin);
    const auto follows = hn::And(odd, hn::Eq(hn::Add(hn::Sub(before, base), one), at));
    const auto leads = hn::And(present, hn::Not(follows));
    const auto kept = hn::Compress(hn::Add(pair, pair), leads);
    const auto leads_f = hn::RebindMask(d, leads);
    hn::StoreInterleaved2(hn::Compress(turned_even, leads_f), hn::Compress(turned_odd, leads_f), d,
                          rotated + count);
    hn::StoreInterleaved2(kept, hn::Add(kept, one), du, index + count);
    count += 2 * uint32_t(hn::CountTrue(du, leads));
  }
  return count;
}

// The same backwards: entries [index, index_end) of the rotated list carry gradients.
void RotateStepBackward(const RowLists& lists, int64_t step, const uint32_t* index, const uint32_t* index_end,
                        const float* drotated, const float* angles, int64_t angle_tile, float* dvalue) {
  const hn::CappedTag<float, kRotaryPairs / 2> d;
  constexpr uint32_t kNeurons = 2 * kRotaryPairs;
  const int64_t lanes = int64_t(hn::Lanes(d)), pairs = std::min(kRotaryPairs, (lists.width + 1) / 2);
  const uint32_t end = lists.offset[step + 1], base = uint32_t(lists.base);
  for (uint32_t k = lists.offset[step]; k < end;) {
    const uint32_t tile = (lists.index[k] - base) / kNeurons, first = tile * kNeurons;
    HWY_ALIGN float spread[kNeurons] = {};
    HWY_ALIGN float turned[kNeurons];
    for (; index < index_end && *index < first + kNeurons; ++index) spread[*index - first] = *drotated++;
    const float* angle = angles + tile * angle_tile;
    for (int64_t i = 0; i < pairs; i += lanes) {
      hn::Vec<decltype(d)> even, odd;
      hn::LoadInterleaved2(d, spread + 2 * i, even, odd);
      const auto c = hn::LoadU(d, angle + i), s = hn::LoadU(d, angle + kRotaryPairs + i);
      hn::StoreInterleaved2(hn::MulAdd(odd, s, hn::Mul(even, c)), hn::NegMulAdd(even, s, hn::Mul(odd, c)), d,
                            turned + 2 * i);
    }
    for (; k < end && lists.index[k] - base < first + kNeurons; ++k)
      dvalue[k] += turned[lists.index[k] - base - first];
  }
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(RotateStep);
HWY_EXPORT(RotateStepBackward);

namespace {

// The table's angles for one row: pairs counted from the head's neuron `in_head`.
struct RowAngles {
  const float* row;
  int64_t tile, first;
  RowAngles(const NeuronRotary& rotary, int64_t r, int64_t in_head)
      : row(rotary.table + r % rotary.rows * 2 * kRotaryPairs),
        tile(rotary.rows * 2 * kRotaryPairs),
        first(in_head / 2) {}
  const float* cosine(int64_t pair) const {
    return row + (first + pair) / kRotaryPairs * tile + (first + pair) % kRotaryPairs;
  }
};

}  // namespace

void rotate_lists(const NeuronRotary& rotary, const RowLists& lists, const float* value, int64_t in_head,
                  int64_t first, RotatedTile& rotated, float* columns, int64_t columns_stride) {
  const auto rotate_step = HWY_DYNAMIC_DISPATCH(RotateStep);
  rotated.steps = lists.rows;
  rotated.width = lists.width;
  uint32_t count = 0;
  for (int64_t r = 0; r < lists.rows; ++r) {
    rotated.offset[r] = count;
    const uint32_t added =
        rotate_step(lists, r, value, RowAngles(rotary, first + r, in_head).cosine(0),
                    rotary.rows * 2 * kRotaryPairs, rotated.index + count, rotated.value + count);
    if (columns)
      for (uint32_t k = count; k < count + added; ++k)
        columns[rotated.index[k] * columns_stride + r] = rotated.value[k];
    count += added;
  }
  rotated.offset[lists.rows] = count;
}

void rotate_lists_backward(const NeuronRotary& rotary, const RowLists& lists, int64_t in_head, int64_t first,
                           const RotatedTile& rotated, const float* drotated, float* dvalue) {
  const auto rotate_back = HWY_DYNAMIC_DISPATCH(RotateStepBackward);
  for (int64_t r = 0; r < lists.rows; ++r)
    rotate_back(lists, r, rotated.index + rotated.offset[r], rotated.index + rotated.offset[r + 1],
                drotated + rotated.offset[r], RowAngles(rotary, first + r, in_head).cosine(0),
                rotary.rows * 2 * kRotaryPairs, dvalue);
}

}  // namespace brood::kernels
#endif
