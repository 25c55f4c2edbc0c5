// Episodic memory of contexts: what followed the last 1, 2, ... 6 bytes, this word, the word before, ... each
// time they were seen. One exposure is enough: a context met a second time predicts what followed the first.
//
// A context of bytes is hashed to two lines of a table, one for each half of the next byte: 15 places for the
// 15 nodes of a tree of four bits, a history (bit_history.h) in each, and one byte that tells contexts of one
// bucket apart. A bucket is 64 bytes, four lines; the line used least gives way. The size of the table is
// fixed and its content does not depend on anything but the stream.
#pragma once

#include <array>
#include <memory>

#include "brood/learn/bit_history.h"
#include "brood/learn/bit_source.h"
#include "brood/learn/logistic.h"
#include "brood/learn/memory_parts.h"

namespace brood {

class ContextMemory : public BitSource {
 public:
  explicit ContextMemory(int log2_bytes);  // of the table

  int inputs() const override;
  void next_byte(const Past& past, bool remember) override;
  void predict(const Past& past, float* inputs) override;
  void consider(const Past& past, float* inputs) override;
  void learn(const Past& past, int bit) override;

  int longest() const { return longest_; }  // the highest order whose context was met before, 0 to 6
  uint32_t situation() const { return cursor_.kinds & 255; }  // kinds of the last four bytes

  // What it makes of the bytes just passed, apart from what it has learnt.
  struct Cursor {
    uint64_t line_start = 0, line_before = 0;
    uint32_t word = 0, word_before = 0, word_before_that = 0, kinds = 0;
    bool possible(uint64_t bytes) const { return line_before <= line_start && line_start <= bytes; }
  };
  const Cursor& cursor() const { return cursor_; }
  void return_to(const Cursor& cursor, const Past& past);

  void name_parts(MemoryParts& parts);
  bool sound() const;  // whether parts that were read can be those of such a memory

 private:
  static constexpr int kContexts = 19;
  static constexpr int kPerContext = 3;
  static constexpr int kOrders = 6;
  struct alignas(16) Line {
    uint8_t check;
    std::array<uint8_t, 15> places;
  };
  struct FreeLines {
    void operator()(Line* lines) const;
  };

  void follow(const Past& past);
  void follow_words(uint8_t byte);
  void set_hashes(const Past& past);
  uint32_t hash(size_t context, const Past& past) const;
  Line* take(uint32_t hash);              // a line that is new if there was none
  const Line* look(uint32_t hash) const;  // an empty one if there is none
  void speak(const Past& past, float* inputs);

  const BitHistories& histories_;
  std::unique_ptr<Line[], FreeLines> lines_;
  uint32_t bucket_mask_;
  std::array<uint32_t, kContexts> hashes_{};
  std::array<Line*, kContexts> taken_{};  // those that predict() found, which learn() changes
  std::array<const Line*, kContexts> chosen_{};
  std::vector<AdaptiveMap> meanings_;  // of a history, for each context
  int longest_ = 0;
  Cursor cursor_;
};

}  // namespace brood
