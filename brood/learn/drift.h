// DriftDetector: notices when a stream has become another one, by what its steps cost. Page's cumulative sum ("Continuous
// inspection schemes", Biometrika 1954), upwards, of costs in units of their own deviation:
//
//   z = (cost − μ)/σ, at most 4;   g ← max(0, g + z − 1);   another stream when g > threshold, since g last was 0
//
// μ and σ run along (the last five hundred steps or so), so a cost that falls as more is learnt raises no alarm, nor does one
// that creeps. After an alarm they begin anew. Memory: a few numbers.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "brood/base/notes.h"

namespace brood {

class DriftDetector {
 public:
  // A change of the stream: where it began, and where it was noticed.
  struct Change {
    int64_t from, noticed;
    bool operator==(const Change&) const = default;
  };
  static constexpr size_t kKept = 100;  // changes

  // The steps from `position` up to `end` of the stream cost so much, on average. True: here a change is noticed.
  bool see(double cost, int64_t position, int64_t end);

  int64_t count() const { return count_; }                         // changes noticed, ever
  const std::vector<Change>& changes() const { return changes_; }  // the last kKept of them

  nlohmann::json notes() const;
  void restore(const Notes& notes);  // throws Error: they cannot be a detector's

 private:
  int64_t seen_ = 0;  // costs since the last change
  double mean_ = 0, variance_ = 0;
  double sum_ = 0;      // g
  int64_t rising_ = 0;  // the position since when it is not 0
  int64_t count_ = 0;
  std::vector<Change> changes_;
};

}  // namespace brood
