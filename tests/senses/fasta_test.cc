#include "brood/senses/fasta.h"

#include <gtest/gtest.h>

#include <string>

#include "brood/base/error.h"

namespace brood {
namespace {

struct Heard final : FastaSink {
  std::string all;
  void begin_sequence(const std::string& name) override { all += "<" + name + ">"; }
  void base(int base) override { all += "ACGT"[base]; }
  void unknown() override { all += "?"; }
};

std::string heard(const std::string& text, size_t at_once = 1000) {
  Heard sink;
  FastaReader reader("genome");
  for (size_t at = 0; at < text.size(); at += at_once) {
    const std::string part = text.substr(at, at_once);
    reader.read({reinterpret_cast<const uint8_t*>(part.data()), part.size()}, sink);
  }
  reader.finish(sink);
  return sink.all;
}

TEST(Fasta, SequencesBasesAndWhatIsNotKnown) {
  const std::string text = ">first one\r\nACGT acgu\r\n; a remark, > and all\n  1 nR-\n\n>\nTT*\n>last";
  const std::string expected = "<first one>ACGTACGT?\?\?<>TT<last>";
  EXPECT_EQ(heard(text), expected);
  for (const size_t at_once : {1, 2, 3, 7}) EXPECT_EQ(heard(text, at_once), expected) << at_once;
  EXPECT_EQ(heard("ACCA\nGG"), "ACCAGG");
  EXPECT_EQ(heard(""), "");
}

TEST(Fasta, OtherTextIsRefusedWithItsLine) {
  try {
    heard(">one\nACGT\nACXT\n");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("genome: line 3"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("X"), std::string::npos) << error.what();
  }
  for (const char* text : {"{\"a\": 1}", "a,b\n1,2\n", "ACGT\x01", "\x1f\x8b\x08"})
    EXPECT_THROW(heard(text), Error) << text;
}

TEST(Fasta, NamesAreBounded) { EXPECT_LT(heard(">" + std::string(100000, 'x') + "\nA").size(), 2000u); }

}  // namespace
}  // namespace brood
