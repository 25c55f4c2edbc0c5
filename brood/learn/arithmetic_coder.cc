#include "brood/learn/arithmetic_coder.h"

#include <algorithm>

namespace brood {

namespace {

// The last point of the part for a one. As low < high and p is no 0 and no 1, both parts hold points.
uint32_t divide(uint32_t low, uint32_t high, CodedProbability p) {
  return low + uint32_t((uint64_t(high - low) * p) >> 16);
}

bool first_byte_agrees(uint32_t low, uint32_t high) { return ((low ^ high) & 0xff000000u) == 0; }

}  // namespace

CodedProbability coded_probability(float p) { return uint32_t(std::clamp(p * 65536.0f, 1.0f, 65535.0f)); }

void BitEncoder::encode(int bit, CodedProbability p) {
  const uint32_t middle = divide(low_, high_, p);
  if (bit)
    high_ = middle;
  else
    low_ = middle + 1;
  while (first_byte_agrees(low_, high_)) {
    out_.push_back(uint8_t(high_ >> 24));
    low_ <<= 8;
    high_ = high_ << 8 | 255;
  }
}

// As many bytes as tell the interval from its surroundings, with zeros read behind them.
void BitEncoder::finish() {
  for (int kept = 24; kept >= 0; kept -= 8) {
    const uint32_t point = high_ & ~((uint32_t(1) << kept) - 1);
    if (point < low_) continue;
    for (int shift = 24; shift >= kept; shift -= 8) out_.push_back(uint8_t(point >> shift));
    break;
  }
  low_ = 0;
  high_ = 0xffffffff;
}

BitDecoder::BitDecoder(std::span<const uint8_t> in) : in_(in) {
  for (int i = 0; i < 4; ++i) value_ = value_ << 8 | next_byte();
}

int BitDecoder::decode(CodedProbability p) {
  const uint32_t middle = divide(low_, high_, p);
  const int bit = value_ <= middle;
  if (bit)
    high_ = middle;
  else
    low_ = middle + 1;
  while (first_byte_agrees(low_, high_)) {
    low_ <<= 8;
    high_ = high_ << 8 | 255;
    value_ = value_ << 8 | next_byte();
  }
  return bit;
}

}  // namespace brood
