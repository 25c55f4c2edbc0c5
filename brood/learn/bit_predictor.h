// Predicts a stream bit by bit: memories and, when there is one, a network, weighed by a gated mixer, refined.
#pragma once

#include <memory>
#include <span>

#include "brood/learn/context_memory.h"
#include "brood/learn/logistic.h"
#include "brood/learn/match_memory.h"

namespace brood {

struct PredictorSettings {
  int log2_memory = 26;  // bytes of the table of contexts
  bool network = false;  // whether set_bytes() will be called
  // Whether a line that begins as an earlier one did, and a long match, is believed before such matches were
  // ever tested, wherever nothing else is sure: what was seen once can then be asked for. It costs a little where
  // a stream repeats the beginnings of lines by chance.
  bool recall = false;
};

class BitPredictor {
 public:
  explicit BitPredictor(const PredictorSettings& settings);

  // The network's opinion of the next byte: 256 probabilities. Before the first bit of a byte.
  void set_bytes(std::span<const float> probabilities);

  float p();            // of the next bit being a one, in (0, 1)
  void learn(int bit);  // it was this
  const Past& past() const { return past_; }

  // Between two bytes, and nothing is learnt from either:
  // the probabilities of the 256 bytes that may be next;
  void distribution(std::span<float> probabilities);
  // what one of them costs, in nats;
  double cost(uint8_t byte);
  // it was this, and what follows is predicted as after it. Returns the byte of the past that gives way to it.
  uint8_t follow(uint8_t byte);

  // Where it stands in the stream, apart from what it has learnt.
  struct Cursor {
    uint64_t bytes = 0;
    ContextMemory::Cursor contexts;
    MatchMemory::Cursor long_match, short_match, line_match;
  };
  Cursor cursor() const;
  // Takes back the bytes followed since; `gave_way` are those that follow() returned, the first one first.
  void return_to(const Cursor& cursor, std::span<const uint8_t> gave_way);

  // For writing and reading it, between two bytes: what it has learnt, beside its cursor and the last bytes,
  // which are all there were, or past().capacity().
  MemoryParts parts() const;
  // Becomes what another one of the same settings is, between two bytes.
  void copy_from(const BitPredictor& other);
  // Goes on where the cursor stood, with parts that were read. False, and of no further use, when these cannot
  // be those of such a predictor.
  bool resume(const Cursor& cursor, std::span<const uint8_t> last_bytes);

 private:
  void next_byte(bool remember);
  void name_parts(MemoryParts& parts);
  float mixed(float* x);  // p of the inputs that the memories gave the mixer; x: the next one
  float considered();     // p(), and nothing is learnt

  template <class Do>
  void each_source(Do&& act);
  float refined(float stretched, int expected);
  float recalled(float p, float stretched);

  PredictorSettings settings_;
  Past past_;
  ContextMemory contexts_;
  MatchMemory long_match_, short_match_;
  std::unique_ptr<MatchMemory> line_match_;  // with recall
  std::vector<float> network_;  // a tree of sums: node 1 is the root, node n has children 2n and 2n + 1
  size_t refined_;              // situations of each refinement
  GatedMixer mixer_;
  std::vector<Refinement> refinements_;
  // Of p(what a match expects), by how long the match is; with recall, and while one expects something.
  std::unique_ptr<Refinement> recall_;
  int recall_expects_ = -1;
};

}  // namespace brood
