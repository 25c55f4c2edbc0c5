// RehearsalMemory: the last tokens of a stream, to draw windows of the past from. A ring with some room to spare, so
// that it can also forget its newest tokens and be what it was before they came.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace brood {

class RehearsalMemory {
 public:
  // Holds the last `capacity` tokens and can go back by as many as `spare`. Takes memory as it fills.
  RehearsalMemory(int64_t capacity, int64_t spare) : capacity_(capacity), places_(capacity + spare) {}

  void add(std::span<const int32_t> tokens);
  int64_t size() const;                     // tokens that it holds
  int32_t operator[](int64_t i) const;      // the i-th of them, from the oldest
  int64_t given() const { return given_; }  // tokens that were ever added
  // Back to when so many had been added.
  void go_back(int64_t given);
  void clear();

 private:
  int64_t first() const;  // of those that it holds, counted as given_ is

  int64_t capacity_, places_;
  int64_t given_ = 0;
  std::vector<int32_t> ring_;  // token i stands at i % places_
};

}  // namespace brood
