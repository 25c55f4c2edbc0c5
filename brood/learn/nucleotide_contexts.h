// What followed the last k bases, here and on the other strand: counts by context, for several orders k.
//
// The two strands of DNA say the same: AACG on one is CGTT on the other, each base's complement, read backwards. So every base
// is counted twice: after the k bases before it, and its complement after the complements of the k bases behind it, backwards
// ("inverted repeats"; Pratas, Pinho and Ferreira, Efficient compression of genomic sequences, DCC 2016).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "brood/base/archive.h"

namespace brood {

constexpr int kNucleotides = 4;  // A, C, G, T: 0 to 3; the complement of b is 3 − b

// What is thought of the next base by one who counts, up to a constant: logarithms around 0, and which of the
// mixer's weights for it are to be used.
struct NucleotideOpinion {
  std::array<float, kNucleotides> logs{};
  int confidence = 0;
};
constexpr int kNucleotideConfidences = 16;

// The last bases as numbers, 2 bits each.
class NucleotideHistory {
 public:
  void push(int base) {
    forward_ = forward_ << 2 | uint64_t(base);
    inverted_ = inverted_ >> 2 | uint64_t(3 - base) << 62;
    if (length_ < 32) ++length_;
  }
  void forget() { length_ = 0; }
  int length() const { return length_; }  // bases since the last break, at most 32
  // The last k ≤ 32 bases, and the context that they are on the other strand.
  uint64_t last(int k) const { return k == 32 ? forward_ : forward_ & ((uint64_t(1) << 2 * k) - 1); }
  uint64_t inverted(int k) const { return inverted_ >> (64 - 2 * k); }
  int back(int k) const { return int(forward_ >> 2 * k & 3); }  // the base k before the last
  void archive(Archive& archive);

 private:
  uint64_t forward_ = 0, inverted_ = 0;
  int length_ = 0;
};

// Counts of one order: a table of all contexts where there are few enough, else of a hash of them, whose entries carry a
// check.
class NucleotideContexts {
 public:
  NucleotideContexts(int order, int log2_slots);

  int order() const { return order_; }
  int64_t bytes() const {
    return int64_t(dense_.size() * sizeof(dense_[0]) + hashed_.size() * sizeof(hashed_[0]));
  }
  static double bytes(int order, int log2_slots);
  // Of the next base, after this history.
  void opine(const NucleotideHistory& history, NucleotideOpinion& opinion);
  // `base` came after `before`, which opine() was asked for last; `after` is the history with it.
  void learn(const NucleotideHistory& before, const NucleotideHistory& after, int base);
  // Memory for the opinion after next is asked for now.
  void prefetch(const NucleotideHistory& history) const;
  void archive(Archive& archive);

 private:
  using Counts = std::array<uint16_t, kNucleotides>;
  struct Entry {
    uint16_t check = 0, counts = 0;  // four counts of 4 bits
  };
  size_t slot(uint64_t context) const;
  uint16_t check(uint64_t context) const;
  Entry* find(uint64_t context, bool make);
  void count(uint64_t context, int base);

  int order_;
  int log2_slots_;
  std::vector<Counts> dense_;
  std::vector<Entry> hashed_;
};

}  // namespace brood
