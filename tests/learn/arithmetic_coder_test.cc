#include "brood/learn/arithmetic_coder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "brood/base/random.h"

namespace brood {
namespace {

struct Bits {
  std::vector<int> bits;
  std::vector<CodedProbability> of_one;
  double cost = 0;  // bits that they should take

  void add(int bit, CodedProbability p) {
    bits.push_back(bit);
    of_one.push_back(p);
    cost -= std::log2(double(bit ? p : 65536 - p) / 65536);
  }
  std::vector<uint8_t> encoded() const {
    std::vector<uint8_t> out;
    BitEncoder encoder(out);
    for (size_t i = 0; i < bits.size(); ++i) encoder.encode(bits[i], of_one[i]);
    encoder.finish();
    return out;
  }
  void expect_back() const {
    const std::vector<uint8_t> bytes = encoded();
    EXPECT_LE(double(bytes.size()), cost / 8 * 1.001 + 5);
    BitDecoder decoder(bytes);
    for (size_t i = 0; i < bits.size(); ++i) ASSERT_EQ(decoder.decode(of_one[i]), bits[i]) << i;
  }
};

TEST(ArithmeticCoder, NoProbabilityIsNothingOrCertain) {
  EXPECT_EQ(coded_probability(0), 1u);
  EXPECT_EQ(coded_probability(1), 65535u);
  EXPECT_EQ(coded_probability(0.5f), 32768u);
}

TEST(ArithmeticCoder, NothingIsNothing) { Bits().expect_back(); }

// All sequences of up to 10 bits, at even, lopsided and extreme probabilities.
TEST(ArithmeticCoder, EveryShortSequenceComesBack) {
  for (const CodedProbability p : {1u, 100u, 32768u, 65000u, 65535u}) {
    for (int length = 1; length <= 10; ++length) {
      for (unsigned word = 0; word < 1u << length; ++word) {
        Bits bits;
        for (int i = 0; i < length; ++i) bits.add(int(word >> i & 1), p);
        bits.expect_back();
      }
    }
  }
}

TEST(ArithmeticCoder, LongSequencesComeBackAndCostWhatTheySurprise) {
  for (const uint64_t seed : {1, 2, 3}) {
    Random random(seed);
    Bits bits;
    for (int i = 0; i < 200000; ++i) {
      const auto p = CodedProbability(1 + random.below(65535));
      bits.add(random.below(65536) < p, p);
    }
    bits.expect_back();
  }
}

TEST(ArithmeticCoder, WhatNeverShouldComeMayCome) {
  Bits bits;
  for (int i = 0; i < 5000; ++i) bits.add(i & 1, i & 1 ? 1 : 65535);
  bits.expect_back();
}

TEST(ArithmeticCoder, AnyBytesGiveSomeBits) {
  BitDecoder decoder({});
  for (int i = 0; i < 1000; ++i) {
    const int bit = decoder.decode(20000);
    EXPECT_TRUE(bit == 0 || bit == 1);
  }
}

}  // namespace
}  // namespace brood
