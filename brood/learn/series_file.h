// A series that goes on: what was learnt of it, with the settings and the names of its columns, as one file
// (docs/formats/series.md).
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "brood/base/file_system.h"
#include "brood/learn/class_learner.h"
#include "brood/learn/series.h"

namespace brood {

struct KeptSeries {
  std::vector<std::string> columns = {};
  std::string time = {}, label = {};  // columns of times and of classes; empty: none
  double last_time = std::numeric_limits<double>::quiet_NaN();  // of the last row; NaN: none
  SeriesSettings settings = {};
  ClassSettings class_settings = {};
  // One of them is there: classes when there is a label.
  std::optional<SeriesLearner> forecasts = {};
  std::optional<ClassLearner> classes = {};

  void begin();  // makes it, with nothing learnt
};

// A kill leaves the old file or the new. Throws Error.
void write_series(const std::string& path, KeptSeries& kept, FileSystem& files = FileSystem::real());
// Throws Error: what the system says, or bytes that no series is.
KeptSeries read_series(const std::string& path);
KeptSeries parse_series(std::span<const std::byte> bytes, const std::string& name);

// Throws Error when its learner would need more memory than there is.
void check_series(const KeptSeries& kept);

constexpr int64_t kMostHorizon = 4096, kMostSeason = 1 << 20, kMostLags = 1024, kMostDelay = 1 << 20,
                  kMostSeriesColumns = 4096;

}  // namespace brood
