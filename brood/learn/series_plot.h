// What a plot of a series needs, in bounded memory: of a long one every second, fourth, … row, and of its alarms the
// strongest.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "brood/base/archive.h"
#include "brood/learn/series.h"

namespace brood {

// Not thread-safe.
class SeriesPlot {
 public:
  explicit SeriesPlot(int64_t columns) : tracks_(size_t(columns)) {}

  struct Point {
    double row, value, expected, low, high, surprise;
  };
  struct Alarm {
    double row, value, anomaly;
  };
  struct Track {
    std::vector<Point> points;
    std::vector<Alarm> alarms;  // in no order
    int64_t weaker = 0;         // alarms that are not among these
  };

  void add(int64_t row, std::span<const double> values, std::span<const SeriesReport> reports);
  const std::vector<Track>& tracks() const { return tracks_; }  // of each column
  void archive(Archive& archive);

  static constexpr size_t kMostPoints = 4000, kMostAlarms = 4000;  // of one column

 private:
  std::vector<Track> tracks_;
  int64_t stride_ = 1;
};

}  // namespace brood
