// Memory of longest matches: where did the last bytes stand before, and what followed there? One earlier
// occurrence is enough. As long as what it says comes true it is followed; the longer it has been right, the
// more it is believed, by as much as an AdaptiveMap has learnt.
//
// What is looked for is the last bytes, a fixed number of them, or the line so far from its first byte: the
// key of a row, the question that an answer follows, whatever stood before that line.
#pragma once

#include "brood/learn/bit_source.h"
#include "brood/learn/logistic.h"
#include "brood/learn/memory_parts.h"

namespace brood {

class MatchMemory : public BitSource {
 public:
  static constexpr int kWholeLine = 0;       // in place of `least`
  static constexpr uint32_t kLongest = 400;  // bytes that are compared
  static constexpr int kLengths = 32;        // classes of lengths

  // least: bytes that must agree. 2^log2_entries places of a hash table, of four bytes each: so many of the
  // last bytes can be found again, up to what collides.
  MatchMemory(int least, int log2_entries);

  int inputs() const override { return 2; }
  void next_byte(const Past& past, bool remember) override;
  void predict(const Past& past, float* inputs) override { consider(past, inputs); }
  void consider(const Past& past, float* inputs) override;
  void learn(const Past& past, int bit) override;

  // How sure it is, 0 (no match) to 15, and the byte that it expects (when sure and so far right).
  int confidence() const;
  int expected() const { return cursor_.length > 0 ? expected_ : -1; }
  int expected_bit(const Past& past) const;           // −1: none, or it was wrong within this byte
  int length() const { return int(cursor_.length); }  // bytes that agree
  int length_class() const;                           // 0 to kLengths − 1

  // Where it stands, apart from what it has learnt.
  struct Cursor {
    uint64_t pointer = 0;  // what is expected next stands here
    uint32_t length = 0;   // bytes that agree before it
    uint32_t missed = 0;   // above 0: it was wrong not long ago
    uint32_t line = 0;     // bytes of the line so far, and what they hash to
    uint32_t line_hash = 0;
    bool possible(uint64_t bytes) const;
  };
  const Cursor& cursor() const { return cursor_; }
  void return_to(const Cursor& cursor, const Past& past);

  void name_parts(const std::string& name, MemoryParts& parts);  // any numbers will do

 private:
  void follow_line(const Past& past);
  bool look_up(const Past& past, uint32_t*& entry);
  void find(const Past& past, uint64_t seen);
  size_t situation(const Past& past) const;

  int least_;
  std::vector<uint32_t> last_seen_;  // position after the bytes, by their hash; its lowest bits
  Cursor cursor_;
  uint8_t expected_ = 0;
  AdaptiveMap trust_;
};

}  // namespace brood
