#include "brood/learn/match_memory.h"

#include <algorithm>

namespace brood {

namespace {

constexpr uint32_t kLongest = 400;  // bytes that are compared

int bucket(uint32_t length) {
  if (length < 16) return int(length);
  if (length < 32) return 16 + int(length - 16) / 4;
  return std::min(20 + int(length - 32) / 16, 31);
}

}  // namespace

MatchMemory::MatchMemory(int least, int log2_entries)
    : least_(least), last_seen_(size_t(1) << log2_entries), trust_(64 * 4, 1000) {
  for (size_t i = 0; i < 64 * 4; ++i) trust_.set(i, 0.75f);
}

int MatchMemory::confidence() const { return length_ == 0 ? 0 : std::min(15, 1 + bucket(length_) / 2); }

void MatchMemory::begin_byte(const Past& past) {
  if (past.bytes() < uint64_t(least_)) return;
  if (length_ > 0 && past.back(1) == expected_) {
    length_ = std::min(length_ + 1, kLongest);
    ++pointer_;
  } else if (length_ > 0) {
    length_ = 0;
    missed_ = 8;
  }
  if (missed_ > 0) --missed_;
  uint64_t hash = 0;
  for (int n = least_; n > 0; --n) hash = (hash + past.back(uint64_t(n)) + 1) * 0x9e3779b97f4a7c15u;
  uint64_t& seen = last_seen_[(hash >> 20) & (last_seen_.size() - 1)];
  if (length_ == 0 && seen > 0 && past.bytes() - seen < past.capacity() - kLongest) {
    uint32_t n = 0;
    while (n < kLongest && n < seen && past.at(seen - 1 - n) == past.back(n + 1)) ++n;
    if (n >= uint32_t(least_)) {
      length_ = n;
      pointer_ = seen;
    }
  }
  seen = past.bytes();
  if (length_ > 0) expected_ = past.at(pointer_);
}

int MatchMemory::expected_bit(const Past& past) const {
  if (length_ == 0 || (uint32_t(expected_) | 256u) >> (8 - past.bit()) != past.partial()) return -1;
  return expected_ >> (7 - past.bit()) & 1;
}

void MatchMemory::predict(const Past& past, float* inputs) {
  if (past.bit() == 0) begin_byte(past);
  const int bit = expected_bit(past);
  inputs[0] = inputs[1] = 0;
  if (bit < 0) return;
  const size_t situation = size_t(bucket(length_)) * 4 + (missed_ > 0 ? 2 : 0) + (past.bit() == 0 ? 0 : 1);
  const float x = trust_.stretched(situation), p = trust_.p(situation);
  inputs[0] = bit ? x : -x;
  inputs[1] = (p - 0.5f) * (bit ? 4.0f : -4.0f);
}

void MatchMemory::learn(const Past& past, int bit) {
  const int expected = expected_bit(past);
  if (expected >= 0) trust_.learn(bit == expected);
}

}  // namespace brood
