// The longest repeat: where the last bases stood before, or stood on the other strand, and what followed there. A repeat
// is followed through single differences, as copies of a gene have them.
#pragma once

#include <cstdint>
#include <vector>

#include "brood/learn/nucleotide_contexts.h"

namespace brood {

// The last bases of the stream: a ring.
class NucleotidePast {
 public:
  explicit NucleotidePast(int log2_bases) : bases_(size_t(1) << log2_bases) {}
  void push(int base) { bases_[size_t(count_++) & (bases_.size() - 1)] = uint8_t(base); }
  int64_t count() const { return count_; }
  int64_t bytes() const { return int64_t(bases_.size()); }
  bool has(int64_t at) const { return at >= 0 && at < count_ && count_ - at <= int64_t(bases_.size()); }
  int at(int64_t position) const { return bases_[size_t(position) & (bases_.size() - 1)]; }
  void archive(Archive& archive);

 private:
  std::vector<uint8_t> bases_;
  int64_t count_ = 0;
};

// Follows two repeats of at least `length` bases: one as it stood, one as it stood on the other strand.
class NucleotideMatch {
 public:
  NucleotideMatch(int length, int log2_slots);

  void opine(const NucleotidePast& past, NucleotideOpinion& as_it_stood, NucleotideOpinion& inverted);
  // past and history hold `base` already.
  void learn(const NucleotidePast& past, const NucleotideHistory& history, int base);
  void forget();
  void archive(Archive& archive);
  int64_t bytes() const { return int64_t(last_seen_.size() * sizeof(last_seen_[0])); }

 private:
  struct Repeat {
    bool inverted = false, following = false;
    int64_t at = 0;            // of the base that tells the next one
    int agreed = 0;            // bases in a row
    uint32_t missed = 0;       // the last 16, a bit each
    int expected = -1;         // −1: nothing was said
    size_t place = 0;          // in `trust`
    std::vector<float> trust;  // how often what was expected came
  };
  void opine(Repeat& repeat, const NucleotidePast& past, NucleotideOpinion& opinion);
  void follow(Repeat& repeat, int base);
  void look(Repeat& repeat, const NucleotidePast& past, const NucleotideHistory& history);
  size_t slot(uint64_t context) const;

  int length_, log2_slots_;
  std::vector<uint32_t>
      last_seen_;  // by hash of a context: the position after it, plus 1, its lowest 32 bits
  Repeat as_it_stood_, inverted_;
};

}  // namespace brood
