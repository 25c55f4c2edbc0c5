#include "brood/learn/drift.h"

#include <algorithm>
#include <cmath>

#include "brood/base/error.h"

namespace brood {

namespace {

constexpr double kMost = 4;        // deviations that one step can count for: one odd step is no other stream
constexpr double kSlack = 1;       // deviations that a stretch may be dearer without ever raising an alarm
constexpr double kThreshold = 25;  // within Shakespeare and Tolstoy g rose to 19 at most (docs/forgetting.md)
constexpr int64_t kFirst = 128;    // costs until there is a mean to speak of
constexpr int64_t kMemory = 512;   // costs over which mean and deviation run

}  // namespace

bool DriftDetector::see(double cost, int64_t position, int64_t end) {
  if (!std::isfinite(cost)) return false;
  const double deviation = std::sqrt(variance_);
  if (seen_ >= kFirst && deviation > 0) {
    if (sum_ == 0) rising_ = position;
    sum_ = std::max(0.0, sum_ + std::min(kMost, (cost - mean_) / deviation) - kSlack);
  }
  const double rate = 1.0 / double(std::min(++seen_, kMemory)), difference = cost - mean_;
  mean_ += rate * difference;
  variance_ = (1 - rate) * (variance_ + rate * difference * difference);
  if (sum_ <= kThreshold) return false;
  ++count_;
  if (changes_.size() == kKept) changes_.erase(changes_.begin());
  changes_.push_back({rising_, end});
  seen_ = 0;
  mean_ = variance_ = sum_ = 0;
  return true;
}

nlohmann::json DriftDetector::notes() const {
  nlohmann::json changes = nlohmann::json::array();
  for (const Change& change : changes_) changes.push_back({change.from, change.noticed});
  return {{"seen", seen_},     {"mean", mean_},   {"variance", variance_}, {"sum", sum_},
          {"rising", rising_}, {"count", count_}, {"changes", changes}};
}

void DriftDetector::restore(const Notes& notes) {
  DriftDetector there;
  there.seen_ = notes.count("seen");
  there.mean_ = notes.cost("mean");
  there.variance_ = notes.cost("variance");
  there.sum_ = notes.cost("sum");
  there.rising_ = notes.count("rising");
  there.count_ = notes.count("count");
  for (const auto& change : notes.list("changes")) {
    if (!change.is_array() || change.size() != 2) notes.refuse("a change is no pair of positions");
    const auto position = [&](size_t i) { return notes.whole(change[i], "changes", 0, Notes::kMostCount); };
    there.changes_.push_back({position(0), position(1)});
  }
  if (int64_t(there.changes_.size()) != std::min(there.count_, int64_t(kKept)))
    notes.refuse(fmt::format("of {} changes {} are noted", there.count_, there.changes_.size()));
  *this = std::move(there);
}

}  // namespace brood
