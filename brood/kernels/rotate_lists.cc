// Of neurons.h: lists of awake neurons, turned pair by pair.
//
// A list of a tile holds some eight neurons of which every second is the odd one of its pair: too few for vectors and
// too irregular for branches. So one entry after the other, with a pair's two values as the halves of one word, and
// selections by masks of bits.
#include <bit>
#include <cstdint>

#include "brood/kernels/neurons.h"

namespace brood::kernels {
namespace {

// The table's angles, row after row; pairs count from the tile's first neuron, `in_head` of its head.
class Angles {
 public:
  Angles(const NeuronRotary& rotary, int64_t first, int64_t in_head)
      : tile_(rotary.rows * kRow),
        left_(rotary.rows - first % rotary.rows),
        row_(rotary.cosines(first, in_head / 2)) {
    prefetch();
  }
  const float* cosine(uint32_t pair) const {
    return row_ + (pair >> kTilePairBits) * tile_ + (pair & (kRotaryPairs - 1));
  }
  void next() {
    row_ += kRow;
    if (--left_ == 0) {
      row_ -= tile_;
      left_ = tile_ / kRow;
    }
    prefetch();
  }

 private:
  static constexpr int64_t kRow = 2 * kRotaryPairs, kAhead = 12 * kRow, kLine = 16;  // floats

  // The table of a long chunk lies beyond the core's own caches, and what the hardware fetches ahead of a walk
  // through it ends with every page.
  void prefetch() const {
    for (int64_t i = 0; i < kRow; i += kLine) __builtin_prefetch(row_ + kAhead + i);
  }

  int64_t tile_, left_;  // floats between tiles; rows until the table's first follows
  const float* row_;
};

// Entries come in ascending order: of a pair with both neurons awake the odd one follows the even one.
class Pairs {
 public:
  // Takes the next entry, neuron `at` of the tile. True when it belongs to the pair of the one before.
  bool next(uint32_t at) {
    const bool again = at >> 1 == pair_;
    pair_ = at >> 1;
    return again;
  }
  uint32_t pair() const { return pair_; }

 private:
  uint32_t pair_ = ~0u;
};

// One step of a tile. A pair whose second neuron is awake too is written twice. Returns the number of entries.
template <bool kColumns>
uint32_t rotate_step(const RowLists& lists, int64_t step, const float* value, const Angles& angles,
                     uint32_t* index, float* rotated, float* columns, int64_t columns_stride) {
  uint32_t count = 0;
  uint64_t values = 0;  // of the pair: the even one's bits below those of the odd one
  Pairs pairs;
  for (uint32_t k = lists.offset[step]; k < lists.offset[step + 1]; ++k) {
    const uint32_t at = lists.index[k] - uint32_t(lists.base);
    const bool again = pairs.next(at);
    values = (values & -uint64_t(again)) | uint64_t(std::bit_cast<uint32_t>(value[k])) << (at % 2 * 32);
    const float even = std::bit_cast<float>(uint32_t(values)),
                odd = std::bit_cast<float>(uint32_t(values >> 32));
    const float* cosine = angles.cosine(pairs.pair());
    const float c = cosine[0], s = cosine[kRotaryPairs];
    const float turned_even = even * c - odd * s, turned_odd = odd * c + even * s;
    const uint32_t first = at & ~1u;
    count += 2 * uint32_t(!again);
    rotated[count - 2] = turned_even;
    rotated[count - 1] = turned_odd;
    index[count - 2] = first;
    index[count - 1] = first + 1;
    if constexpr (kColumns) {
      float* column = columns + int64_t(first) * columns_stride;
      column[0] = turned_even;
      column[columns_stride] = turned_odd;
    }
  }
  return count;
}

}  // namespace

void rotate_lists(const NeuronRotary& rotary, const RowLists& lists, const float* value, int64_t in_head,
                  int64_t first, RotatedTile& rotated, float* columns, int64_t columns_stride) {
  rotated.steps = lists.rows;
  rotated.width = lists.width;
  uint32_t count = 0;
  Angles angles(rotary, first, in_head);
  for (int64_t r = 0; r < lists.rows; ++r, angles.next()) {
    rotated.offset[r] = count;
    uint32_t* index = rotated.index + count;
    float* values = rotated.value + count;
    count += columns ? rotate_step<true>(lists, r, value, angles, index, values, columns + r, columns_stride)
                     : rotate_step<false>(lists, r, value, angles, index, values, nullptr, 0);
  }
  rotated.offset[lists.rows] = count;
}

void rotate_lists_backward(const NeuronRotary& rotary, const RowLists& lists, int64_t in_head, int64_t first,
                           const RotatedTile& rotated, const float* drotated, float* dvalue) {
  Angles angles(rotary, first, in_head);
  for (int64_t r = 0; r < lists.rows; ++r, angles.next()) {
    int64_t place = int64_t(rotated.offset[r]) - 2;  // of the pair's two
    Pairs pairs;
    for (uint32_t k = lists.offset[r]; k < lists.offset[r + 1]; ++k) {
      const uint32_t at = lists.index[k] - uint32_t(lists.base), odd = at % 2;
      place += 2 * int64_t(!pairs.next(at));
      const float* cosine = angles.cosine(pairs.pair());
      const float s = std::bit_cast<float>(std::bit_cast<uint32_t>(cosine[kRotaryPairs]) ^ odd << 31);
      dvalue[k] += drotated[place + odd] * cosine[0] + drotated[place + 1 - odd] * s;
    }
  }
}

}  // namespace brood::kernels
