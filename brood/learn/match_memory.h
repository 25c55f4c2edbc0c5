// Memory of longest matches: where did the last bytes stand before, and what followed there? One earlier
// occurrence of `least` bytes is enough. As long as what it says comes true it is followed; the longer it has
// been right, the more it is believed, by as much as an AdaptiveMap has learnt.
#pragma once

#include "brood/learn/bit_source.h"
#include "brood/learn/logistic.h"

namespace brood {

class MatchMemory : public BitSource {
 public:
  // least: bytes that must agree; 2^log2_entries places of a hash table.
  MatchMemory(int least, int log2_entries);

  int inputs() const override { return 2; }
  void predict(const Past& past, float* inputs) override;
  void learn(const Past& past, int bit) override;

  // How sure it is, 0 (no match) to 15, and the byte that it expects (when sure and so far right).
  int confidence() const;
  int expected() const { return length_ > 0 ? expected_ : -1; }

 private:
  void begin_byte(const Past& past);
  int expected_bit(const Past& past) const;  // −1: none, or it was wrong within this byte

  int least_;
  std::vector<uint64_t> last_seen_;  // position after the bytes, by their hash
  uint64_t pointer_ = 0;             // what is expected next stands here
  uint32_t length_ = 0, missed_ = 0;
  uint8_t expected_ = 0;
  AdaptiveMap trust_;
};

}  // namespace brood
