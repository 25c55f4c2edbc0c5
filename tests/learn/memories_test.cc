// Each source of predictions by itself: what it says after one exposure.
#include <gtest/gtest.h>

#include <string>

#include "brood/learn/byte_network.h"
#include "brood/learn/context_memory.h"
#include "brood/learn/match_memory.h"

namespace brood {
namespace {

// Shows the source a text, bit by bit. Of the last `asked` bytes: how many of the bits it spoke about, and how
// many of those it was right on.
struct Verdict {
  int bits = 0, spoken = 0, right = 0;
};
Verdict verdict(BitSource& source, Past& past, const std::string& text, size_t asked) {
  Verdict sum;
  std::vector<float> inputs(size_t(source.inputs())), considered(inputs.size());
  source.next_byte(past, true);
  for (size_t i = 0; i < text.size(); ++i) {
    for (int place = 7; place >= 0; --place) {
      const int bit = uint8_t(text[i]) >> place & 1;
      source.predict(past, inputs.data());
      float evidence = 0;
      for (const float x : inputs) evidence += x;
      if (i + asked >= text.size()) {
        ++sum.bits;
        sum.spoken += evidence != 0;
        sum.right += evidence != 0 && (evidence > 0) == (bit == 1);
      }
      source.consider(past, considered.data());
      EXPECT_EQ(inputs, considered) << "it says another thing when nothing shall be learnt";
      source.learn(past, bit);
      past.add(bit);
    }
    source.next_byte(past, true);
  }
  return sum;
}

TEST(Past, KnowsTheLastBytesAndTheBitsUnderWay) {
  Past past(3);
  for (const char c : std::string("0123456789"))
    for (int place = 7; place >= 0; --place) past.add(c >> place & 1);
  EXPECT_EQ(past.bytes(), 10u);
  EXPECT_EQ(past.back(1), '9');
  EXPECT_EQ(past.back(8), '2');
  EXPECT_EQ(past.last8() & 0xffff, 0x3839u);
  past.add(1);
  past.add(0);
  EXPECT_EQ(past.bit(), 2);
  EXPECT_EQ(past.partial(), 0b110u);
}

TEST(Past, TakesBytesBack) {
  Past past(3);
  std::vector<uint8_t> gave_way;
  for (const char c : std::string("0123456789")) gave_way.push_back(past.add_byte(uint8_t(c)));
  Past before(3);
  for (const char c : std::string("01234")) before.add_byte(uint8_t(c));
  while (past.bytes() > 5) {
    past.take_back(gave_way.back());
    gave_way.pop_back();
  }
  EXPECT_EQ(past.last(), before.last());
  EXPECT_EQ(past.last8(), before.last8());
  Past resumed(3);
  resumed.resume(5, before.last());
  EXPECT_EQ(resumed.last8(), before.last8());
  EXPECT_EQ(resumed.back(1), '4');
}

TEST(ContextMemory, OneExposureIsEnough) {
  ContextMemory memory(18);
  Past past(12);
  const Verdict first = verdict(memory, past, "the capital of nowhere -> Qx7-Lm2\nother things\n", 0);
  EXPECT_EQ(first.bits, 0);
  const Verdict again = verdict(memory, past, "the capital of nowhere -> Qx7-Lm2", 7);
  EXPECT_EQ(again.bits, 56);
  EXPECT_EQ(again.right, 56);
}

TEST(ContextMemory, SaysNothingOfWhatItHasNeverSeen) {
  ContextMemory memory(18);
  Past past(12);
  const Verdict first = verdict(memory, past, "q", 1);
  EXPECT_EQ(first.spoken, 0);
}

TEST(ContextMemory, IsOfConstantSizeAndGoesOnWhenFull) {
  ContextMemory memory(14);  // 1,024 lines, of which each byte touches 38
  Past past(12);
  std::string text;
  for (int i = 0; i < 3000; ++i) text += char(i * i * 31 >> 3);
  text += "again and again and again and again";
  EXPECT_GT(verdict(memory, past, text, 10).right, 70);
}

TEST(MatchMemory, FollowsTheLastOccurrence) {
  MatchMemory memory(5, 10);
  Past past(12);
  const Verdict again = verdict(memory, past, "abcde one two three;xyz;abcde one two three;", 12);
  EXPECT_EQ(again.right, 96);
  EXPECT_GT(memory.confidence(), 5);
  EXPECT_EQ(memory.expected(), 'x') << "what came next the first time";
}

// The same first bytes, and the line decides; what stood before it does not matter.
TEST(MatchMemory, AWholeLineIsAKey) {
  MatchMemory memory(MatchMemory::kWholeLine, 12);
  Past past(12);
  EXPECT_EQ(verdict(memory, past, "a -> 123\nb -> 456\nother\na -> 123", 3).right, 24);
  MatchMemory other(MatchMemory::kWholeLine, 12);
  Past another(12);
  EXPECT_EQ(verdict(other, another, "a -> 123\nba -> 123", 3).spoken, 0) << "the end of a line is no key";
}

TEST(MatchMemory, RemembersNothingWhenItShallNot) {
  MatchMemory memory(5, 10);
  Past past(12);
  for (const char c : std::string("abcdefgh;")) {
    past.add_byte(uint8_t(c));
    memory.next_byte(past, false);
  }
  EXPECT_EQ(verdict(memory, past, "abcdefgh", 3).spoken, 0);
}

TEST(MatchMemory, ForgetsWhatHasLeftTheRing) {
  MatchMemory memory(5, 10);
  Past past(9);  // 512 bytes
  std::string text = "abcdefghijklmnop";
  for (int i = 0; i < 600; ++i) text += char(128 + i * 7 % 101 + i % 3);
  EXPECT_EQ(verdict(memory, past, text + "abcdefgh", 3).spoken, 0);
}

TEST(ByteNetwork, SameBytesSameOpinionsAndItLearns) {
  const auto config = nlohmann::json::parse(R"({"architecture":"mamba","d_model":16,"n_layer":1})");
  LiveSettings settings;
  settings.chunk = 8;
  settings.rehearsals = 0;
  settings.optimiser.learning_rate = 1e-2;
  Model a(config, 3), b(config, 3);
  ByteNetwork first(a, settings), second(b, settings);
  const std::string text = "to and fro and ";
  float begin = 0, end = 0;
  for (int i = 0; i < 900; ++i) {
    const auto byte = uint8_t(text[size_t(i) % text.size()]);
    const std::vector<float> seen(first.next().begin(), first.next().end());
    EXPECT_TRUE(std::equal(seen.begin(), seen.end(), second.next().begin())) << i;
    float sum = 0;
    for (const float p : seen) sum += p;
    EXPECT_NEAR(sum, 1, 1e-4);
    (i < 100 ? begin : end) += i < 100 || i >= 800 ? seen[byte] / 100 : 0;
    first.see(byte);
    second.see(byte);
  }
  EXPECT_LT(begin, 0.3);
  EXPECT_GT(end, 0.7);
}

}  // namespace
}  // namespace brood
