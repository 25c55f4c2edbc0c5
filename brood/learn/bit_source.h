// A memory that predicts the next byte of a stream, bit by bit, and is one of several that a mixer weighs.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace brood {

// What the sources look back at: the bytes so far (the last 2^k of them) and the bits of the one under way.
class Past {
 public:
  explicit Past(int log2_bytes) : ring_(size_t(1) << log2_bytes) {}

  uint64_t bytes() const { return bytes_; }  // seen whole
  uint64_t capacity() const { return ring_.size(); }
  uint8_t at(uint64_t position) const { return ring_[position & (ring_.size() - 1)]; }
  uint8_t back(uint64_t n) const { return at(bytes_ - n); }  // n = 1: the last one; 0 before the beginning
  uint64_t last8() const { return last8_; }                  // the last one lowest
  int bit() const { return bit_; }                           // of the byte under way: 0, the highest, to 7
  uint32_t partial() const { return partial_; }              // a one, then its bits so far

  void add(int bit) {
    partial_ = partial_ << 1 | uint32_t(bit);
    if (++bit_ == 8) add_byte(uint8_t(partial_));
  }
  // A byte whole, whatever bits of it there were. Returns the one whose place it takes in the ring.
  uint8_t add_byte(uint8_t byte) {
    uint8_t& place = ring_[bytes_++ & (ring_.size() - 1)];
    last8_ = last8_ << 8 | byte;
    suppose(1);
    return std::exchange(place, byte);
  }
  // As if these were the bits so far (1: none).
  void suppose(uint32_t partial) {
    partial_ = partial;
    bit_ = std::bit_width(partial) - 1;
  }
  // Before the last byte, which stands in the ring where `instead` stood.
  void take_back(uint8_t instead) {
    ring_[--bytes_ & (ring_.size() - 1)] = instead;
    look_back();
  }
  // The bytes that it has, the oldest first.
  std::vector<uint8_t> last() const {
    std::vector<uint8_t> bytes;
    for (uint64_t n = std::min(bytes_, capacity()); n > 0; --n) bytes.push_back(back(n));
    return bytes;
  }
  // After so many bytes; those that the ring has room for.
  void resume(uint64_t bytes, std::span<const uint8_t> last) {
    for (size_t i = 0; i < last.size(); ++i) ring_[(bytes - last.size() + i) & (ring_.size() - 1)] = last[i];
    bytes_ = bytes;
    look_back();
  }

 private:
  void look_back() {
    last8_ = 0;
    for (uint64_t n = 8; n > 0; --n) last8_ = last8_ << 8 | back(n);
    suppose(1);
  }

  std::vector<uint8_t> ring_;
  uint64_t bytes_ = 0, last8_ = 0;
  uint32_t partial_ = 1;
  int bit_ = 0;
};

class BitSource {
 public:
  virtual ~BitSource() = default;
  virtual int inputs() const = 0;  // numbers that it gives the mixer

  // Before the first byte and after each: `past` has it now. remember: what came is kept for later, too.
  virtual void next_byte(const Past& past, bool remember) = 0;
  // For the next bit: evidence for a one above 0, for a zero below, in units of stretch(p); 0 says nothing.
  // learn() follows.
  virtual void predict(const Past& past, float* inputs) = 0;
  // The same for any bit that may be next, and nothing is learnt: bits 0 and 4 of a byte are asked before those
  // that come after them.
  virtual void consider(const Past& past, float* inputs) = 0;
  virtual void learn(const Past& past, int bit) = 0;  // `past` is still that of predict()
};

}  // namespace brood
