// SeriesLearner: rows of numbers, forecast, scored when they come, learnt at once. One pass, in the order of
// time; a forecast for h rows ahead is learnt from h rows later and not before, so that no number ever told
// anything of one that had not come yet.
//
// What forecasts (docs/series.md has the equations): for each column four closed-form readouts, two kinds of
// inputs with two memories each (everything alike, and the last rows more), the last value, and the value a
// season ago; for each step ahead they are weighed by how they did lately.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "brood/base/archive.h"

namespace brood {

struct SeriesSettings {
  int64_t horizon = 1;         // rows ahead, all of 1 to this are forecast
  int64_t season = 0;          // rows after which things repeat; 0: not known
  int64_t lags = 48;           // last values of a column that its readouts see
  double forgetting = 0.9995;  // of the memories that prefer the last rows
  double coverage = 0.8;       // share of the values that their intervals are to hold
  double alarm = 0.07;         // anomaly score from which on a row is one
};

// What is said of one column of the row that came last. NaN: not known.
struct SeriesReport {
  double expected;   // what was forecast for it, `horizon` rows ago
  double low, high;  // the interval given with that
  double surprise;  // −log10 of the share of rows that surprise as much as this one or more, by its forecast
                    // of one row ago
  double anomaly;   // how far from everything before (learn/novelty.h)
  bool alarm;
  double forecast;  // what is expected `horizon` rows from now
};

// Sums over the rows that were scored, for each column.
struct SeriesScore {
  int64_t rows = 0;                  // with a value and a forecast
  int64_t values = 0;                // pairs of a value and a forecast of it: up to `horizon` for each row
  double squared = 0, absolute = 0;  // errors of the forecasts
  double last_squared = 0, last_absolute = 0;      // of repeating the last value
  double season_squared = 0, season_absolute = 0;  // of repeating the last season; 0 without one
  int64_t inside = 0, intervals = 0;               // values in their intervals
  int64_t alarms = 0;
  double mean = 0, deviations = 0;  // of the scored values: Σ (x − mean)²

  void archive(Archive& archive);
};

// Not thread-safe. Memory does not grow with the stream.
class SeriesLearner {
 public:
  SeriesLearner(int64_t columns, const SeriesSettings& settings);
  SeriesLearner(SeriesLearner&&) noexcept;
  SeriesLearner& operator=(SeriesLearner&&) noexcept;
  ~SeriesLearner();

  // The next row: scores what was forecast of it, learns, forecasts anew. A value that is NaN, infinite or
  // beyond 1e100 is missing. gap: time since the row before in any unit, NaN: not known.
  void observe(std::span<const double> values, double gap);

  std::span<const SeriesReport> reports() const;
  // All steps of the forecast of one column: [horizon].
  std::span<const double> forecast(int64_t column) const;
  const SeriesScore& score(int64_t column) const;
  // What was scored so far counts no more; what was learnt stays.
  void begin_scores();
  int64_t rows() const;
  int64_t columns() const;
  int64_t prototypes() const;

  // The whole of it, to go on to the bit. An archive that reads must be of a learner of as many columns and the
  // same settings.
  void archive(Archive& archive);
  // What that writes at least, of a learner that has learnt nothing: to be known before one is made.
  static double least_bytes(int64_t columns, const SeriesSettings& settings);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brood
