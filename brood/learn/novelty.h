// Has anything like this been seen before? A memory of prototypes that cannot forget, and an anomaly score made
// of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "brood/base/archive.h"

namespace brood {

// Points of a few dimensions. Distances are the largest difference along any axis, as a share of the range that
// was seen along it. A point further than the radius from all prototypes becomes one (leader clustering,
// Hartigan 1975, §3.2). Not thread-safe.
class Prototypes {
 public:
  explicit Prototypes(int64_t dimensions);

  // To the nearest prototype, at most kFarthest; 0 while there is none.
  double distance(std::span<const double> point) const;
  void learn(std::span<const double> point);
  int64_t count() const { return int64_t(points_.size()) / dimensions_; }
  void archive(Archive& archive);

  static constexpr double kFarthest = 10;
  static constexpr int64_t kMost = 2048;

 private:
  double distance_up_to(std::span<const double> point, double enough) const;
  void thin();

  int64_t dimensions_;
  double radius_ = 0.02;
  std::vector<double> points_, low_, high_, scale_;
};

// The anomaly score of one series: how far from everything before lie its value, the mean and the envelope of
// its last values, and the size of its forecast's error. Only news counts: what is not more surprising than
// something in the last kQuiet rows scores 0. Not thread-safe.
class Novelty {
 public:
  Novelty();
  // A row, scored and then remembered; error: of the forecast, NaN when there was none.
  double observe(double value, double error);
  int64_t prototypes() const;
  void archive(Archive& archive);

 private:
  // Scored from the row `begin` on, remembered from the one before it by half.
  double look(Prototypes& memory, std::span<const double> point, int64_t begin);
  double news(double score);

  static constexpr int64_t kWindow = 50, kQuiet = 100;
  int64_t rows_ = 0;
  std::vector<double> window_, scores_;
  Prototypes values_, means_, envelopes_, errors_;
};

}  // namespace brood
