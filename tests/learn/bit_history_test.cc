#include "brood/learn/bit_history.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace brood {
namespace {

uint8_t after(const char* bits) {
  uint8_t history = 0;
  for (; *bits; ++bits) history = BitHistories::instance().next(history, *bits - '0');
  return history;
}

TEST(BitHistories, FourBitsAreKeptInTheirOrder) {
  std::set<uint8_t> seen{0};
  for (int length = 1; length <= 4; ++length) {
    for (unsigned bits = 0; bits < 1u << length; ++bits) {
      std::string word;
      for (int i = length - 1; i >= 0; --i) word += char('0' + (bits >> i & 1));
      EXPECT_TRUE(seen.insert(after(word.c_str())).second) << word;
    }
  }
}

TEST(BitHistories, CountWhatCame) {
  const BitHistories& table = BitHistories::instance();
  const uint8_t history = after("1111111111");
  EXPECT_EQ(table.ones(history), 10);
  EXPECT_EQ(table.zeros(history), 0);
  EXPECT_EQ(table.zeros(after("01001")), 2) << "one of three is forgotten";
}

TEST(BitHistories, AContradictionShortensALongCount) {
  const BitHistories& table = BitHistories::instance();
  const uint8_t history = after(
      "11111111111111111111"
      "0");
  EXPECT_EQ(table.zeros(history), 1);
  EXPECT_LT(table.ones(history), 8);
  EXPECT_GT(table.ones(history), 2);
}

TEST(BitHistories, EveryHistoryLeadsToOneThatIsMoreOfTheBitThatCame) {
  const BitHistories& table = BitHistories::instance();
  EXPECT_GT(table.size(), 150);
  EXPECT_LE(table.size(), 256);
  for (int h = 0; h < table.size(); ++h) {
    const uint8_t one = table.next(uint8_t(h), 1), zero = table.next(uint8_t(h), 0);
    EXPECT_LT(one, table.size());
    EXPECT_LT(zero, table.size());
    EXPECT_GE(table.ones(one), table.ones(uint8_t(h)));
    EXPECT_GE(table.zeros(zero), table.zeros(uint8_t(h)));
    EXPECT_LE(table.zeros(one), table.zeros(uint8_t(h)));
    EXPECT_LE(table.ones(zero), table.ones(uint8_t(h)));
  }
}

}  // namespace
}  // namespace brood
