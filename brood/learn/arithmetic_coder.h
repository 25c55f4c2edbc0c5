// Arithmetic coding of bits: what a predictor expects costs little. A bit of probability p takes -log2 p bits
// of output, and a whole block at most 4 bytes more.
//
// The interval of G. N. N. Martin, "Range encoding" (1979), in the carryless form of M. Mahoney, "Data
// Compression Explained" (§4.1, binary): [low, high] shrinks to the part that the bit stands for, and leading
// bytes that agree go out. Integers alone: both sides compute the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace brood {

// Of a one, in 65536ths, 1 to 65535: no bit is impossible.
using CodedProbability = uint32_t;
CodedProbability coded_probability(float p);

class BitEncoder {
 public:
  explicit BitEncoder(std::vector<uint8_t>& out) : out_(out) {}  // appends to `out`

  void encode(int bit, CodedProbability p);
  void finish();  // after the last bit

 private:
  std::vector<uint8_t>& out_;
  uint32_t low_ = 0, high_ = 0xffffffff;
};

class BitDecoder {
 public:
  explicit BitDecoder(std::span<const uint8_t> in);

  // Any input gives some bits; beyond its end zeros are read.
  int decode(CodedProbability p);

 private:
  uint32_t next_byte() { return at_ < in_.size() ? in_[at_++] : 0; }

  std::span<const uint8_t> in_;
  size_t at_ = 0;
  uint32_t low_ = 0, high_ = 0xffffffff, value_ = 0;
};

}  // namespace brood
