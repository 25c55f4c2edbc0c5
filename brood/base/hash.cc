#include "brood/base/hash.h"

#include <algorithm>
#include <cstring>

namespace brood {

uint64_t content_hash(std::span<const std::byte> bytes) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15u;  // 2^64 over the golden ratio, odd
  uint64_t sum = bytes.size();
  for (size_t at = 0; at < bytes.size(); at += sizeof(sum)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min(sizeof(word), bytes.size() - at));
    sum = (sum ^ word) * kFactor;
    sum ^= sum >> 32;
  }
  return sum;
}

}  // namespace brood
