// One column of a series as series.cc learns it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "brood/base/archive.h"
#include "brood/learn/closed_form.h"
#include "brood/learn/error_distribution.h"
#include "brood/learn/novelty.h"
#include "brood/learn/series.h"

namespace brood {

// Mean and spread, first of all rows, then of about the last thousand.
class RunningScale {
 public:
  void add(double x);
  double mean() const { return mean_; }
  double deviation() const;
  int64_t count() const { return count_; }
  void archive(Archive& archive);

 private:
  int64_t count_ = 0, outliers_ = 0;  // outliers in a row
  double mean_ = 0, variance_ = 0;
};

// The last rows, oldest forgotten first. A value that is missing is the one before it.
class SeriesHistory {
 public:
  SeriesHistory(int64_t columns, int64_t rows);
  void push(std::span<const double> values, double gap);
  // `ago` rows before the last one.
  double at(int64_t column, int64_t ago) const {
    return values_[row(ago) * size_t(columns_) + size_t(column)];
  }
  bool known(int64_t column, int64_t ago) const {
    return known_[row(ago) * size_t(columns_) + size_t(column)];
  }
  double gap(int64_t ago) const { return gaps_[row(ago)]; }  // against the usual one: log2, within ±8
  int64_t rows() const { return count_; }                    // in all
  int64_t columns() const { return columns_; }
  void archive(Archive& archive);
  static double archived_bytes(int64_t columns, int64_t rows);

 private:
  size_t row(int64_t ago) const { return size_t((count_ - 1 - ago) % capacity_); }

  int64_t columns_, capacity_, count_ = 0;
  double usual_gap_ = 0;
  std::vector<double> values_, gaps_;
  std::vector<uint8_t> known_;
};

class SeriesColumn {
 public:
  // what: its place in the history.
  SeriesColumn(int64_t what, const SeriesHistory& history, const SeriesSettings& settings);

  // The newest row of the history is the one to score and learn. scale: of all columns.
  void observe(const SeriesHistory& history, std::span<const RunningScale> scales);
  const SeriesReport& report() const { return report_; }
  std::span<const double> forecast() const { return forecast_of(now_); }
  const SeriesScore& score() const { return score_; }
  void begin_scores() { score_ = {}; }
  int64_t prototypes() const { return novelty_.prototypes(); }
  int64_t rows() const { return rows_; }  // that it has seen
  void archive(Archive& archive);

  // What archive() writes at least, of one of `columns` columns that has learnt nothing.
  static double least_bytes(int64_t columns, const SeriesSettings& settings);

  // Rows of history that it looks back.
  static int64_t look_back(const SeriesSettings& settings);

 private:
  // Two kinds of inputs: with the level of the series, or of its changes alone, which a level that drifts
  // cannot mislead.
  static constexpr int kKinds = 2, kMemories = 2, kReadouts = kKinds * kMemories;
  static constexpr int kLast = kReadouts, kSeason = kReadouts + 1;

  struct Unit {  // what a number of a column is measured in
    double mean = 0, deviation = 1;
  };

  void score_row(const SeriesHistory& history);
  void learn(const SeriesHistory& history);
  void predict(const SeriesHistory& history);
  void measure(std::span<const RunningScale> scales);
  void mix();
  int64_t input_count(int kind) const;
  int64_t seasons_ago(int64_t step) const;  // how long before now the same place of an earlier season was
  void change_units(RecursiveLeastSquares& readout, int kind, const std::vector<Unit>& before) const;
  void fill_inputs(const SeriesHistory& history, int64_t ago, int kind, std::span<double> z) const;
  void score_step(const SeriesHistory& history, int64_t step, double value);

  // Forecasts made `ago` rows ago: by an expert, and mixed.
  int64_t slot(int64_t ago) const { return (now_ + slots_ - ago) % slots_; }
  double* expert(int64_t slot, int which) { return &experts_[size_t((slot * kExperts + which) * horizon_)]; }
  std::span<const double> forecast_of(int64_t slot) const {
    return {&mixed_[size_t(slot * horizon_)], size_t(horizon_)};
  }

  static constexpr int kExperts = kReadouts + 2;
  int64_t what_, horizon_, season_, lags_, slots_, now_ = 0, rows_ = 0;
  int64_t known_ = 0;  // values that came
  double alarm_, lowest_ = 0, highest_ = 0;
  std::vector<int64_t> seen_;      // the other columns that it looks at
  std::vector<Unit> units_;        // its own, then theirs
  std::vector<Unit> first_units_;  // when learning began, or began anew
  std::vector<RecursiveLeastSquares> readouts_;
  std::vector<double> inputs_, targets_, results_;
  std::vector<double> experts_, mixed_, widths_;  // rings of slots_
  std::vector<double> losses_;                    // [experts, horizon]: mean squared errors of late
  ErrorDistribution surprises_;
  ConformalInterval interval_;
  Novelty novelty_;
  SeriesReport report_;
  SeriesScore score_;
};

}  // namespace brood
