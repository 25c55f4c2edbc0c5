// NucleotideLearner: the next base of DNA, predicted, scored and learnt, one pass. Memory is bounded.
//
// Contexts of several lengths and repeats, each counted on both strands (nucleotide_contexts.h, nucleotide_match.h), say
// what they think of A, C, G and T; their logarithms are added up with weights,
//
//   p(b) ∝ exp(Σ_i w_i,c(i) l_i(b))        w_i,c(i) ← w_i,c(i) + η (l_i(x) − Σ_b p(b) l_i(b))
//
// with one weight for every confidence c(i) that i has, learnt by the gradient of −ln p(x) for the base x that came.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "brood/learn/nucleotide_contexts.h"
#include "brood/learn/nucleotide_match.h"

namespace brood {

struct NucleotideSettings {
  int log2_slots = 22;  // entries of each large table: 32 bytes of memory in all for each, and 45 MB beside
};

class NucleotideLearner {
 public:
  explicit NucleotideLearner(const NucleotideSettings& settings = {});

  // Takes the next base, 0 to 3. Returns what it cost, in bits.
  double observe(int base);
  // What comes next does not follow what came: another sequence, or bases that are not known.
  void interrupt();
  // Of A, C, G and T as the next base.
  std::array<float, kNucleotides> distribution();
  // Bytes that archive() writes of one with such tables, but for the past.
  static double least_bytes(int log2_slots);
  // The whole of it, to go on to the bit. An archive that reads must be of a learner of the same settings.
  void archive(Archive& archive);
  const NucleotideSettings& settings() const { return settings_; }
  int64_t bases() const { return past_.count(); }
  int64_t bytes() const;  // of its memory, once it is full

 private:
  void predict();
  void mix();
  float& weight(size_t input) {
    return weights_[input * size_t(kNucleotideConfidences) + size_t(opinions_[input].confidence)];
  }

  NucleotideSettings settings_;
  NucleotideHistory history_;
  NucleotidePast past_;
  std::vector<NucleotideContexts> contexts_;
  std::vector<NucleotideMatch> matches_;
  std::vector<NucleotideOpinion> opinions_;  // of the contexts, then of the matches
  std::vector<float> weights_;               // [opinions][confidences]
  std::array<float, kNucleotides> p_{};
  bool predicted_ = false;
};

}  // namespace brood
