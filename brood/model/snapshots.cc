#include "brood/model/snapshots.h"

#include <algorithm>

namespace brood {

SnapshotRing::SnapshotRing(int64_t capacity, int64_t spacing) : capacity_(capacity), spacing_(spacing) {
  if (capacity < 1 || spacing < 1)
    fail("snapshots: {} of them every {} steps; both must be at least 1", capacity, spacing);
}

bool SnapshotRing::observe(const State& state) {
  const int64_t position = state.positions[0];
  if (kept_ > 0 && position < newest())
    fail("snapshots: a state at step {}, but one of step {} was kept before; roll back to go back", position,
         newest());
  if (kept_ > 0 && position - newest() < spacing_) return false;
  if (kept_ == capacity_) {
    first_ = (first_ + 1) % capacity_;
    --kept_;
  }
  const size_t next = size_t((first_ + kept_) % capacity_);
  if (next == copies_.size())
    copies_.push_back(state.clone());
  else
    copies_[next].copy_from(state);
  ++kept_;
  return true;
}

int64_t SnapshotRing::roll_back(State& state, int64_t position) {
  int64_t later = kept_;
  while (later > 0 && place(later - 1).positions[0] > position) --later;
  if (later == 0)
    fail("snapshots: none is kept of step {} or before{}", position,
         kept_ == 0 ? "" : fmt::format("; the oldest is of step {}", oldest()));
  kept_ = later;
  state.copy_from(place(later - 1));
  return newest();
}

int64_t SnapshotRing::bytes() const {
  int64_t n = 0;
  for (const State& copy : copies_) n += copy.bytes();
  return n;
}

}  // namespace brood
