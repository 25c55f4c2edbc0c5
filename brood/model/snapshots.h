// SnapshotRing: copies of a state at some of its past positions, to go back to. The ring holds the last
// `capacity` of them and then writes over the oldest, so memory is constant, and nothing is allocated once it
// is full.
//
//   SnapshotRing past(8, 1000);
//   ... past.observe(state); model.forward(tape, state, ...);        after every chunk, or before
//   const int64_t at = past.roll_back(state, 41'500);                the newest that is not later: 41,000, say
//   ... read steps [at, 41'500) again                                with the same cuts: the same bits
#pragma once

#include <cstdint>
#include <vector>

#include "brood/model/state.h"

namespace brood {

// Not thread-safe. A position is that of the first stream; all streams go back together.
class SnapshotRing {
 public:
  // spacing: steps between two snapshots, at least. Throws Error when either is below 1.
  SnapshotRing(int64_t capacity, int64_t spacing);

  // Keeps a copy when nothing is kept yet or `spacing` steps have passed since the last one; says whether it
  // did. Always states of the same model and number of streams. A state that stands before the last copy
  // belongs to another past: throws Error.
  bool observe(const State& state);

  // Makes state what it was at the newest snapshot whose position is at most `position`, and returns that
  // position. Later snapshots are dropped: they belong to a future that will not come. Throws Error when all
  // snapshots are later (or there are none).
  int64_t roll_back(State& state, int64_t position);

  int64_t kept() const { return kept_; }
  int64_t oldest() const { return kept_ == 0 ? -1 : place(0).positions[0]; }          // −1: none
  int64_t newest() const { return kept_ == 0 ? -1 : place(kept_ - 1).positions[0]; }  // −1: none
  int64_t bytes() const;  // of all copies that have memory

 private:
  // i-th of those kept, from the oldest.
  const State& place(int64_t i) const { return copies_[size_t((first_ + i) % capacity_)]; }

  const int64_t capacity_, spacing_;
  std::vector<State> copies_;
  int64_t first_ = 0, kept_ = 0;
};

}  // namespace brood
