// What happened at one place so far, in one byte: the bits that followed a context.
//
// A byte holds the exact sequence of up to four bits; of longer ones how many zeros and ones there were (the
// larger count exactly only while it matters) and which came last. A bit that contradicts many others
// shortens their count: the recent past says more than the distant one (the nonstationary counters of
// M. Mahoney, "Adaptive Weighing of Context Models for Lossless Data Compression", 2005, §3.1; the table here
// is made by rules of our own). What such a history means is not laid down: an AdaptiveMap learns it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace brood {

class BitHistories {
 public:
  static const BitHistories& instance();

  uint8_t next(uint8_t history, int bit) const { return next_[size_t(bit)][history]; }
  int zeros(uint8_t history) const { return zeros_[history]; }
  int ones(uint8_t history) const { return ones_[history]; }
  int size() const { return size_; }  // histories there are; 0 is the empty one

 private:
  BitHistories();
  std::array<uint8_t, 256> next_[2]{};
  std::array<uint8_t, 256> zeros_{}, ones_{};
  int size_ = 0;
};

}  // namespace brood
