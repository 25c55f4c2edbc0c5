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
#include "brood/learn/series_plot.h"
#include "brood/learn/stream_journal.h"

namespace brood {

// How far the rows have been read, and what was made of them: with it the stream goes on as if it had never ended
// (docs/exactly-once.md).
struct SeriesStream {
  uint64_t journal = 0;    // the stream's name there; 0: it is a file, which is read again and needs none
  std::string begun_with;  // tells this beginning from others
  StreamSource source;
  std::string reader;     // of the table, TableReader::archive()
  std::string last_time;  // as it stands in the last row
  int64_t rows = 0;       // of the source so far, and of these:
  int64_t rejected = 0;   // malformed ones
  int64_t late = 0;       // that are not later than the row before
  std::string first_rejected;
  struct Output {
    std::string path;   // empty: none
    int64_t bytes = 0;  // written until then
  };
  Output out, rejects, page;
  std::optional<SeriesPlot> plot;
};

struct KeptSeries {
  std::vector<std::string> columns = {};  // none: no row has come yet, and there is no learner
  std::string time = {}, label = {};      // columns of times and of classes; empty: none
  double last_time = std::numeric_limits<double>::quiet_NaN();  // of the last row; NaN: none
  SeriesSettings settings = {};
  ClassSettings class_settings = {};
  // One of them is there: classes when there is a label.
  std::optional<SeriesLearner> forecasts = {};
  std::optional<ClassLearner> classes = {};
  std::optional<SeriesStream> stream = {};

  void begin();          // makes the learner, with nothing learnt
  int64_t rows() const;  // learnt
};

// A kill leaves the old file or the new. Throws Error.
void write_series(const std::string& path, KeptSeries& kept, FileSystem& files = FileSystem::real());
std::vector<std::byte> series_bytes(KeptSeries& kept);  // what that writes
// Throws Error: what the system says, or bytes that no series is.
KeptSeries read_series(const std::string& path);
KeptSeries parse_series(std::span<const std::byte> bytes, const std::string& name);

// Throws Error when its learner would need more memory than there is.
void check_series(const KeptSeries& kept);

constexpr int64_t kMostHorizon = 4096, kMostSeason = 1 << 20, kMostLags = 1024, kMostDelay = 1 << 20,
                  kMostSeriesColumns = 4096;

}  // namespace brood
