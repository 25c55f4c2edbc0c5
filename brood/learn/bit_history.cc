#include "brood/learn/bit_history.h"

#include <algorithm>
#include <vector>

#include "brood/base/error.h"

namespace brood {

namespace {

constexpr int kExact = 4;  // bits that are kept in their order
// The most that the larger count reaches beside a smaller one of 0, 1, 2, ...: together they fill a byte.
constexpr std::array<int, 5> kMost = {40, 28, 18, 10, 7};

struct History {
  int length = 0;     // up to kExact the bits themselves are known
  unsigned bits = 0;  // the last kExact at most, the newest lowest
  int zeros = 0, ones = 0;

  int last() const { return int(bits & 1); }
  bool operator==(const History& other) const {
    if (length <= kExact || other.length <= kExact) return length == other.length && bits == other.bits;
    return zeros == other.zeros && ones == other.ones && last() == other.last();
  }
};

// What is left of a count that a bit contradicts.
int contradicted(int count) {
  return count <= 2 ? count : count <= 4 ? 2 : count <= 8 ? 3 : count <= 16 ? 4 : 5;
}

void fit(History& h) {
  int& small = h.zeros < h.ones ? h.zeros : h.ones;
  int& large = h.zeros < h.ones ? h.ones : h.zeros;
  small = std::min(small, int(kMost.size()) - 1);
  large = std::min(large, kMost[size_t(small)]);
}

History after(History h, int bit) {
  int& same = bit ? h.ones : h.zeros;
  int& other = bit ? h.zeros : h.ones;
  ++same;
  if (h.length >= kExact) other = contradicted(other);
  h.bits = (h.bits << 1 | unsigned(bit)) & ((1u << kExact) - 1);
  h.length = std::min(h.length + 1, kExact + 1);
  if (h.length > kExact) fit(h);
  return h;
}

}  // namespace

const BitHistories& BitHistories::instance() {
  static const BitHistories table;
  return table;
}

BitHistories::BitHistories() {
  std::vector<History> found(1);
  for (size_t i = 0; i < found.size(); ++i) {
    for (int bit = 0; bit < 2; ++bit) {
      const History h = after(found[i], bit);
      auto at = std::find(found.begin(), found.end(), h);
      if (at == found.end()) at = found.insert(at, h);
      next_[bit][i] = uint8_t(at - found.begin());
    }
    BROOD_ASSERT(found.size() <= 256);
    zeros_[i] = uint8_t(found[i].zeros);
    ones_[i] = uint8_t(found[i].ones);
  }
  size_ = int(found.size());
}

}  // namespace brood
