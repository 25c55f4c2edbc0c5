#include "brood/senses/fasta.h"

#include <array>
#include <string_view>

#include "brood/base/error.h"
#include "brood/base/json.h"

namespace brood {
namespace {

constexpr size_t kMostNameBytes = 1000;
enum : int8_t { kUnknown = 4, kNothing = 5, kRefused = 6 };

constexpr std::array<int8_t, 256> letters() {
  std::array<int8_t, 256> of{};
  of.fill(kRefused);
  for (const char c : std::string_view(" \t\r*0123456789")) of[uint8_t(c)] = kNothing;
  const auto both_cases = [&of](std::string_view capitals, int8_t value) {
    for (const char c : capitals) of[uint8_t(c)] = of[uint8_t(c - 'A' + 'a')] = value;
  };
  both_cases("RYSWKMBDHVN", kUnknown);
  of[uint8_t('-')] = of[uint8_t('.')] = kUnknown;
  both_cases("A", 0);
  both_cases("C", 1);
  both_cases("G", 2);
  both_cases("TU", 3);
  return of;
}
constexpr auto kLetters = letters();

}  // namespace

void FastaReader::refuse(uint8_t byte) const {
  fail("reading {}: line {} is no DNA: it holds {}; FASTA or the letters A, C, G, T and N are expected",
       name_, number_, shown(std::string(1, char(byte))));
}

void FastaReader::name_byte(uint8_t byte) {
  if (byte != '\r' && sequence_.size() < kMostNameBytes) sequence_.push_back(char(byte));
}

void FastaReader::read(std::span<const uint8_t> bytes, FastaSink& sink) {
  for (const uint8_t byte : bytes) {
    if (byte == '\n') {
      if (line_ == Line::kName) sink.begin_sequence(sequence_);
      line_ = Line::kBegins;
      ++number_;
      continue;
    }
    if (line_ == Line::kBegins) {
      line_ = byte == '>' ? Line::kName : byte == ';' ? Line::kRemark : Line::kBases;
      sequence_.clear();
      if (line_ != Line::kBases) continue;
    }
    if (line_ == Line::kName) name_byte(byte);
    if (line_ != Line::kBases) continue;
    const int8_t letter = kLetters[byte];
    if (letter < kUnknown)
      sink.base(letter);
    else if (letter == kUnknown)
      sink.unknown();
    else if (letter == kRefused)
      refuse(byte);
  }
}

void FastaReader::finish(FastaSink& sink) {
  if (line_ == Line::kName) sink.begin_sequence(sequence_);
  line_ = Line::kBegins;
}

}  // namespace brood
