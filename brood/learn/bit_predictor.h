// Predicts a stream bit by bit: memories and, when there is one, a network, weighed by a gated mixer, refined.
#pragma once

#include <memory>
#include <span>

#include "brood/learn/context_memory.h"
#include "brood/learn/logistic.h"
#include "brood/learn/match_memory.h"

namespace brood {

class BitPredictor {
 public:
  // log2_memory: bytes of the table of contexts. network: whether set_bytes() will be called.
  BitPredictor(int log2_memory, bool network);

  // The network's opinion of the next byte: 256 probabilities. Before the first bit of a byte.
  void set_bytes(std::span<const float> probabilities);

  float p();            // of the next bit being a one, in (0, 1)
  void learn(int bit);  // it was this
  const Past& past() const { return past_; }

 private:
  Past past_;
  ContextMemory contexts_;
  MatchMemory long_match_, short_match_;
  std::vector<float> network_;  // a tree of sums: node 1 is the root, node n has children 2n and 2n + 1
  bool has_network_;
  size_t refined_;  // situations of each refinement
  GatedMixer mixer_;
  std::vector<Refinement> refinements_;
};

}  // namespace brood
