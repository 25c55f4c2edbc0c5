#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "brood/base/error.h"
#include "brood/base/file.h"
#include "brood/base/random.h"
#include "brood/learn/nucleotide_file.h"
#include "tests/fixture/scratch_directory.h"

namespace brood {
namespace {

using Bases = std::vector<int>;

Bases random_bases(size_t n, uint64_t seed) {
  Random random(seed);
  Bases bases(n);
  for (int& base : bases) base = int(random.below(kNucleotides));
  return bases;
}

Bases other_strand(Bases bases) {
  std::reverse(bases.begin(), bases.end());
  for (int& base : bases) base = 3 - base;
  return bases;
}

Bases mutated(Bases bases, double share, uint64_t seed) {
  Random random(seed);
  for (int& base : bases)
    if (random.uniform() < share) base = (base + 1 + int(random.below(3))) % kNucleotides;
  return bases;
}

// Bits per base.
double learn(NucleotideLearner& learner, const Bases& bases) {
  double bits = 0;
  for (const int base : bases) bits += learner.observe(base);
  return bits / double(bases.size());
}

const NucleotideSettings kSmall = {.log2_slots = 16};

TEST(Nucleotides, NoiseCostsTwoBits) {
  NucleotideLearner learner(kSmall);
  const double bits = learn(learner, random_bases(20000, 1));
  EXPECT_GT(bits, 1.99);
  EXPECT_LT(bits, 2.03);
}

TEST(Nucleotides, RepeatsOfBothStrandsAreKnown) {
  const Bases gene = random_bases(5000, 2);
  NucleotideLearner as_it_stood(kSmall), inverted(kSmall), changed(kSmall);
  learn(as_it_stood, gene);
  EXPECT_LT(learn(as_it_stood, gene), 0.1);
  learn(inverted, gene);
  EXPECT_LT(learn(inverted, other_strand(gene)), 0.1);
  learn(changed, gene);
  EXPECT_LT(learn(changed, mutated(gene, 0.02, 3)), 0.5);  // the changes alone take 0.17
}

TEST(Nucleotides, CostIsThatOfTheDistribution) {
  NucleotideLearner learner(kSmall);
  Bases bases = random_bases(1000, 4);
  bases.insert(bases.end(), bases.begin(), bases.begin() + 500);
  for (const int base : bases) {
    const auto p = learner.distribution();
    EXPECT_NEAR(std::accumulate(p.begin(), p.end(), 0.0), 1, 1e-5);
    EXPECT_EQ(learner.observe(base), -std::log2(double(p[size_t(base)])));
  }
}

TEST(Nucleotides, WhatIsInterruptedDoesNotGoOn) {
  const Bases gene = random_bases(2000, 5);
  NucleotideLearner learner(kSmall);
  learn(learner, gene);
  learn(learner, Bases(gene.begin(), gene.begin() + 1000));
  const float sure = learner.distribution()[size_t(gene[1000])];
  EXPECT_GT(sure, 0.9f);
  learner.interrupt();
  EXPECT_LT(learner.distribution()[size_t(gene[1000])], 0.5f);
}

// The stream's first bases come back inverted: the repeat ends where the stream began.
TEST(Nucleotides, ARepeatMayRunOutOfTheStream) {
  const ScratchDirectory scratch;
  const Bases gene = random_bases(500, 9);
  for (const size_t beyond : {0, 1, 2, 30}) {
    NucleotideLearner learner(kSmall);
    learn(learner, gene);
    learn(learner, other_strand(gene));
    learn(learner, random_bases(beyond + 1, 10));
    write_nucleotides(scratch / "dna.brood", learner);
    const auto read = read_nucleotides(scratch / "dna.brood");
    for (const int base : gene) ASSERT_EQ(read->observe(base), learner.observe(base)) << beyond;
  }
}

TEST(Nucleotides, GoesOnToTheBit) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "dna.brood";
  Bases bases = random_bases(3000, 7);
  const Bases again = mutated(other_strand(bases), 0.05, 8);
  NucleotideLearner learner(kSmall);
  learn(learner, bases);
  learn(learner, Bases(again.begin(), again.begin() + 777));
  write_nucleotides(path, learner);
  const auto read = read_nucleotides(path);
  EXPECT_EQ(read->bases(), learner.bases());
  for (size_t i = 777; i < again.size(); ++i)
    ASSERT_EQ(read->observe(again[i]), learner.observe(again[i])) << i;

  std::string file = read_file(path, int64_t(1) << 30);
  const auto parse = [&] { return parse_nucleotides(std::as_bytes(std::span(file)), "it"); };
  for (const size_t at : {size_t(0), size_t(9), size_t(17), size_t(200), file.size() / 2, file.size() - 1}) {
    file[at] ^= 0x10;
    EXPECT_THROW(parse(), Error) << at;
    file[at] ^= 0x10;
  }
  EXPECT_NO_THROW(parse());
  file.resize(file.size() - 100);
  EXPECT_THROW(parse(), Error);
  file.resize(2);
  EXPECT_THROW(parse(), Error);
}

}  // namespace
}  // namespace brood
