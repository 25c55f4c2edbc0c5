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

namespace brood {

class ContextMemory : public BitSource {
 public:
  explicit ContextMemory(int log2_bytes);  // of the table

  int inputs() const override;
  void predict(const Past& past, float* inputs) override;
  void learn(const Past& past, int bit) override;

  int longest() const { return longest_; }  // the highest order whose context was met before, 0 to 6
  uint32_t situation() const { return kinds_ & 255; }  // kinds of the last four bytes

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

  void begin_byte(const Past& past);
  void follow_words(uint8_t byte);
  Line* find(uint32_t hash);

  const BitHistories& histories_;
  std::unique_ptr<Line[], FreeLines> lines_;
  uint32_t bucket_mask_;
  std::array<uint32_t, kContexts> hashes_{};
  std::array<Line*, kContexts> chosen_{};
  std::vector<AdaptiveMap> meanings_;  // of a history, for each context
  int longest_ = 0;
  uint32_t word_ = 0, word_before_ = 0, word_before_that_ = 0, kinds_ = 0;
  uint64_t line_start_ = 0, line_before_ = 0;
};

}  // namespace brood
