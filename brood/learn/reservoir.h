// Reservoir: a bounded sample of all that was ever put in, in blocks, each as likely to be held as any other. Bottom-k
// sampling (Cohen and Kaplan 2007), the same in effect as Vitter's Algorithm R (1985): block n has the rank hash(seed, n),
// and those with the lowest ranks stay. So what is held follows from the seed and from what came, whenever it is looked at.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "brood/model/directory.h"

namespace brood {

// A copy shares the blocks, which never change: it costs a pointer each, and another thread may read it. Otherwise not
// thread-safe.
class Reservoir {
 public:
  static constexpr int64_t kBlock = 1024;  // tokens

  // Holds at most `capacity` tokens, in whole blocks; takes memory as it fills. 0: it holds nothing.
  Reservoir(int64_t capacity, uint64_t seed);

  void add(std::span<const int32_t> tokens);
  int64_t given() const { return given_; }  // tokens that were ever added
  int64_t blocks() const { return int64_t(held_.size()); }
  std::span<const int32_t> block(int64_t i) const { return *held_[size_t(i)].tokens; }

  // A file of a model directory (docs/formats/model-directory.md). Throws Error: what the system says.
  MemoryWriter writer() const;
  // Becomes what the file holds, its seed included, as far as there is room. Throws Error when it cannot be that of tokens from 0 to
  // vocabulary − 1: nothing in it is believed.
  void read(const SafetensorsFile& file, int64_t vocabulary);

 private:
  struct Held {
    uint64_t rank;
    int64_t number;  // of the block, counted from the first one added
    std::shared_ptr<const std::vector<int32_t>> tokens;
    bool operator<(const Held& other) const {
      return rank != other.rank ? rank < other.rank : number < other.number;
    }
  };
  void offer(Held block);
  uint64_t rank(int64_t number) const;

  int64_t capacity_;  // blocks
  uint64_t seed_;
  int64_t given_ = 0;
  std::vector<Held> held_;           // by rank
  std::vector<int32_t> unfinished_;  // of the block that is not full yet
};

}  // namespace brood
