#include "brood/learn/nucleotide_match.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace brood {
namespace {

constexpr int kMostMissed = 8;  // of 16
constexpr int kMostAgreed = 1 << 20;
constexpr int kAgreed = 24, kMissed = kMostMissed + 1, kRecently = 2;
constexpr float kRate = 0.004f, kLeastTrust = 0.02f, kMostTrust = 0.9998f;

// Repeats are believed alike that have agreed as long, have missed as often, and did or did not miss just now.
size_t place_of(int agreed, uint32_t missed) {
  const int length = agreed < 16 ? agreed : std::min(16 + (agreed - 16) / 32, kAgreed - 1);
  const int recently = (missed & 0xff) != 0;
  return size_t((length * kMissed + std::popcount(missed)) * kRecently + recently);
}

}  // namespace

void NucleotidePast::archive(Archive& archive) {
  archive.whole(count_, 0, int64_t(1) << 60);
  const auto kept = size_t(std::min<int64_t>(count_, bytes()));
  archive.expect(double(kept));
  archive.bytes({bases_.data(), kept});
  for (size_t i = 0; i < kept && archive.reading(); ++i)
    if (bases_[i] >= kNucleotides) archive.refuse("a base in it is none");
}

NucleotideMatch::NucleotideMatch(int length, int log2_slots)
    : length_(length), log2_slots_(log2_slots), last_seen_(size_t(1) << log2_slots) {
  inverted_.inverted = true;
  for (Repeat* repeat : {&as_it_stood_, &inverted_})
    repeat->trust.assign(size_t(kAgreed * kMissed * kRecently), 0.8f);
}

size_t NucleotideMatch::slot(uint64_t context) const {
  return size_t(((context ^ context >> 29) * 0x9e3779b97f4a7c15u) >> (64 - log2_slots_));
}

void NucleotideMatch::opine(const NucleotidePast& past, NucleotideOpinion& as_it_stood,
                            NucleotideOpinion& inverted) {
  opine(as_it_stood_, past, as_it_stood);
  opine(inverted_, past, inverted);
}

void NucleotideMatch::opine(Repeat& repeat, const NucleotidePast& past, NucleotideOpinion& opinion) {
  opinion = {};
  repeat.expected = -1;
  if (!past.has(repeat.at)) repeat.following = false;  // before the stream began, or forgotten
  if (!repeat.following) return;
  const int base = past.at(repeat.at);
  repeat.expected = repeat.inverted ? 3 - base : base;
  repeat.place = place_of(repeat.agreed, repeat.missed);
  const float p = repeat.trust[repeat.place];
  const float ahead = std::log(p / ((1 - p) / (kNucleotides - 1)));
  for (float& log : opinion.logs) log = -ahead / kNucleotides;
  opinion.logs[size_t(repeat.expected)] += ahead;
  const auto agreed = int(std::bit_width(unsigned(repeat.agreed)));
  opinion.confidence = repeat.missed ? 8 + std::min(agreed, 7) : 1 + std::min(agreed, 6);
}

void NucleotideMatch::follow(Repeat& repeat, int base) {
  if (repeat.expected >= 0) {
    const bool right = repeat.expected == base;
    float& trust = repeat.trust[repeat.place];
    trust = std::clamp(trust + kRate * (float(right) - trust), kLeastTrust, kMostTrust);
    repeat.agreed = right ? std::min(repeat.agreed + 1, kMostAgreed) : 0;
    repeat.missed = (repeat.missed << 1 | uint32_t(!right)) & 0xffff;
    if (std::popcount(repeat.missed) > kMostMissed) {
      repeat.following = false;
      repeat.missed = 0;
    }
  }
  if (repeat.following) repeat.at += repeat.inverted ? -1 : 1;
}

void NucleotideMatch::look(Repeat& repeat, const NucleotidePast& past, const NucleotideHistory& history) {
  const uint32_t seen = last_seen_[slot(repeat.inverted ? history.inverted(length_) : history.last(length_))];
  if (seen == 0) return;
  // Back to 64 bits: the latest position with these lowest ones.
  const int64_t after = past.count() - int64_t(uint32_t(uint32_t(past.count()) - (seen - 1)));
  for (int k = 1; k <= length_; ++k) {
    const int64_t there = repeat.inverted ? after - length_ - 1 + k : after - k;
    if (!past.has(there)) return;
    const int base = history.back(k - 1);
    if (past.at(there) != (repeat.inverted ? 3 - base : base)) return;
  }
  repeat.following = true;
  repeat.at = repeat.inverted ? after - length_ - 1 : after;
  repeat.agreed = length_;
  repeat.missed = 0;
}

void NucleotideMatch::learn(const NucleotidePast& past, const NucleotideHistory& history, int base) {
  follow(as_it_stood_, base);
  follow(inverted_, base);
  if (history.length() < length_) return;
  // A repeat that just missed gives way to one that agrees.
  for (Repeat* repeat : {&as_it_stood_, &inverted_})
    if (!repeat->following || (repeat->missed & 0xffff) != 0) look(*repeat, past, history);
  last_seen_[slot(history.last(length_))] = uint32_t(past.count()) + 1;
}

void NucleotideMatch::archive(Archive& archive) {
  archive.bytes({reinterpret_cast<uint8_t*>(last_seen_.data()), last_seen_.size() * sizeof(last_seen_[0])});
  for (Repeat* repeat : {&as_it_stood_, &inverted_}) {
    int64_t following = repeat->following, agreed = repeat->agreed, missed = repeat->missed;
    archive.whole(following, 0, 1);
    archive.whole(repeat->at, -1, int64_t(1) << 60);
    archive.whole(agreed, 0, kMostAgreed);
    archive.whole(missed, 0, 0xffff);
    archive.floats(repeat->trust, kLeastTrust, kMostTrust);
    repeat->following = following != 0, repeat->agreed = int(agreed), repeat->missed = uint32_t(missed);
    if (std::popcount(repeat->missed) > kMostMissed) archive.refuse("a repeat in it cannot be");
    repeat->expected = -1;
  }
}

void NucleotideMatch::forget() {
  for (Repeat* repeat : {&as_it_stood_, &inverted_}) repeat->following = false;
}

}  // namespace brood
