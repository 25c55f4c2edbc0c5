// RehearsalMemory: of what windows of the past are drawn. The last tokens of a stream, all of them, and of what is older
// a sample (reservoir.h), so that what a long stream began with is not forgotten.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "brood/base/random.h"
#include "brood/learn/reservoir.h"

namespace brood {

// The last tokens lie in a ring with some room to spare, so that it can also forget its newest tokens and be what it was
// before they came.
class RehearsalMemory {
 public:
  // Holds the last `recent` tokens, can go back by as many as `spare`, and samples what is older into `distant` places.
  // Takes memory as it fills.
  RehearsalMemory(int64_t recent, int64_t spare, int64_t distant, uint64_t seed)
      : capacity_(recent), places_(recent + spare), distant_(distant, seed) {}

  void add(std::span<const int32_t> tokens);
  int64_t size() const;                     // of the last tokens
  int32_t operator[](int64_t i) const;      // the i-th of them, from the oldest
  int64_t given() const { return given_; }  // tokens that were ever added, since it was cleared
  const Reservoir& distant() const { return distant_; }
  Reservoir& distant() { return distant_; }

  // A window of n tokens is appended to `window`. From any place of the stream alike, as long as all of it is held; later
  // half of the windows are of the last tokens, half of what is older. Where the last `fresh` tokens are those of another
  // stream than what came before, fresh_share of the windows at least are from these, fewer while there are few of
  // them. Needs size() >= n and size() >= fresh.
  void draw(int64_t n, int64_t fresh, double fresh_share, Random& random, std::vector<int32_t>& window) const;

  // Back to when so many had been added, and what is older was this.
  void go_back(int64_t given, const Reservoir& distant);
  void clear();  // of the last tokens

 private:
  int64_t first() const;  // of those that it holds, counted as given_ is
  void draw_last(int64_t begin, int64_t end, int64_t n, Random& random, std::vector<int32_t>& window) const;
  void draw_older(int64_t n, int64_t end, Random& random, std::vector<int32_t>& window) const;

  int64_t capacity_, places_;
  int64_t given_ = 0;
  std::vector<int32_t> ring_;  // token i stands at i % places_
  Reservoir distant_;
};

}  // namespace brood
