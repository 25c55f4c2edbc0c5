// A series that goes on: what a SeriesLearner has learnt, with its settings and the names of its columns, as one
// file (docs/formats/series.md).
#pragma once

#include <string>
#include <vector>

#include "brood/base/file_system.h"
#include "brood/learn/series.h"

namespace brood {

struct KeptSeries {
  std::vector<std::string> columns;
  std::string time;  // column of time; empty: none
  double last_time;  // of the last row; NaN: none
  SeriesSettings settings;
  SeriesLearner learner;
};

// A kill leaves the old file or the new. Throws Error.
void write_series(const std::string& path, KeptSeries& kept, FileSystem& files = FileSystem::real());
// Throws Error: what the system says, or bytes that no series is.
KeptSeries read_series(const std::string& path);
KeptSeries parse_series(std::span<const std::byte> bytes, const std::string& name);

// Throws Error when no series can have so many columns with these settings: too large for the memory.
void check_series(int64_t columns, const SeriesSettings& settings);

constexpr int64_t kMostHorizon = 4096, kMostSeason = 1 << 20, kMostLags = 1024, kMostSeriesColumns = 4096;

}  // namespace brood
