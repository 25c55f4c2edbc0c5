// A memory that predicts the next byte of a stream, bit by bit, and is one of several that a mixer weighs.
#pragma once

#include <cstddef>
#include <cstdint>
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
    if (++bit_ < 8) return;
    ring_[bytes_++ & (ring_.size() - 1)] = uint8_t(partial_);
    last8_ = last8_ << 8 | (partial_ & 255);
    partial_ = 1;
    bit_ = 0;
  }

 private:
  std::vector<uint8_t> ring_;
  uint64_t bytes_ = 0, last8_ = 0;
  uint32_t partial_ = 1;
  int bit_ = 0;
};

class BitSource {
 public:
  virtual ~BitSource() = default;
  virtual int inputs() const = 0;  // numbers that it gives the mixer
  // For the next bit: evidence for a one above 0, for a zero below, in units of stretch(p); 0 says nothing.
  virtual void predict(const Past& past, float* inputs) = 0;
  virtual void learn(const Past& past, int bit) = 0;  // `past` is still that of predict()
};

}  // namespace brood
