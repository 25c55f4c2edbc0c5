#include "brood/learn/series_column.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "brood/base/error.h"

namespace brood {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
constexpr double kRidge = 10;
constexpr int64_t kMostSeen = 16;          // other columns that a column looks at
constexpr double kMostInput = 5;           // deviations; an outlier tells no more than that it is one
constexpr double kLossForgetting = 0.997;  // of the errors that experts are weighed by
constexpr double kMostUnitChange = 1e6;    // beyond that nothing was learnt that would go on

double bounded(double x) { return std::clamp(x, -kMostInput, kMostInput); }

// x⁸.
double eighth_power(double x) {
  x *= x;
  x *= x;
  return x * x;
}

}  // namespace

int64_t SeriesColumn::look_back(const SeriesSettings& settings) {
  return std::max(settings.horizon + settings.lags, settings.season + settings.horizon) + 2;
}

SeriesColumn::SeriesColumn(int64_t what, const SeriesHistory& history, const SeriesSettings& settings)
    : what_(what),
      horizon_(settings.horizon),
      season_(settings.season),
      lags_(settings.lags),
      slots_(settings.horizon + 1),
      alarm_(settings.alarm),
      interval_(settings.coverage),
      report_{kUnknown, kUnknown, kUnknown, kUnknown, kUnknown, false, kUnknown} {
  for (int64_t i = 0; i < history.columns() && int64_t(seen_.size()) < kMostSeen; ++i)
    if (i != what) seen_.push_back(i);
  units_.resize(seen_.size() + 1);
  first_units_ = units_;
  for (int kind = 0; kind < kKinds; ++kind)
    for (const double forgetting : {1.0, settings.forgetting})
      readouts_.emplace_back(input_count(kind), horizon_, forgetting, kRidge);
  inputs_.resize(size_t(input_count(0)));
  targets_.resize(size_t(horizon_));
  experts_.resize(size_t(slots_ * kExperts * horizon_));
  mixed_.resize(size_t(slots_ * horizon_));
  widths_.resize(size_t(slots_));
  losses_.resize(size_t(kExperts * horizon_));
}

// The bias, the level, lags against the last value, the others, the last gap, and the value a season ago where
// the lags do not reach that far.
int64_t SeriesColumn::input_count(int kind) const {
  return 1 + (kind == 0) + (lags_ - 1) + int64_t(seen_.size()) + 1 + (season_ > lags_);
}

int64_t SeriesColumn::seasons_ago(int64_t step) const {
  return season_ * ((step + season_ - 1) / season_) - step;
}

void SeriesColumn::fill_inputs(const SeriesHistory& history, int64_t ago, int kind,
                               std::span<double> z) const {
  const int64_t oldest = history.rows() - 1;
  const auto value = [&](int64_t column, int64_t back) {
    return history.at(column, std::min(ago + back, oldest));
  };
  const double last = value(what_, 0), per_unit = 1 / units_[0].deviation;
  size_t at = 0;
  z[at++] = 1;
  if (kind == 0) z[at++] = bounded((last - units_[0].mean) * per_unit);
  for (int64_t back = 1; back < lags_; ++back) z[at++] = bounded((value(what_, back) - last) * per_unit);
  for (size_t i = 0; i < seen_.size(); ++i) {
    const double other = value(seen_[i], 0), from = kind == 0 ? units_[i + 1].mean : value(seen_[i], 1);
    z[at++] = bounded((other - from) / units_[i + 1].deviation);
  }
  z[at++] = history.gap(std::min(ago, oldest));
  if (season_ > lags_) z[at++] = bounded((value(what_, seasons_ago(horizon_)) - last) * per_unit);
  BROOD_ASSERT(at == z.size());
}

// Units follow the columns when these have become twice or half as wide or have moved away.
void SeriesColumn::measure(std::span<const RunningScale> scales) {
  const auto scale_of = [&](size_t i) -> const RunningScale& {
    return scales[size_t(i == 0 ? what_ : seen_[i - 1])];
  };
  bool changed = false;
  for (size_t i = 0; i < units_.size() && !changed; ++i) {
    const double deviation = scale_of(i).deviation(), old = units_[i].deviation;
    changed =
        deviation > 2 * old || deviation < old / 2 || std::abs(scale_of(i).mean() - units_[i].mean) > 2 * old;
  }
  if (!changed) return;
  const std::vector<Unit> before = units_;
  bool comparable = true;
  for (size_t i = 0; i < units_.size(); ++i) {
    units_[i] = {scale_of(i).mean(), scale_of(i).deviation()};
    const double ratio = first_units_[i].deviation / units_[i].deviation;
    comparable = comparable && ratio < kMostUnitChange && ratio > 1 / kMostUnitChange;
  }
  if (!comparable) first_units_ = units_;
  for (int which = 0; which < kReadouts; ++which) {
    if (comparable)
      change_units(readouts_[size_t(which)], which / kMemories, before);
    else
      readouts_[size_t(which)].forget_all();
  }
}

void SeriesColumn::change_units(RecursiveLeastSquares& readout, int kind,
                                const std::vector<Unit>& before) const {
  const auto ratio = [&](size_t i) { return before[i].deviation / units_[i].deviation; };
  const auto moved = [&](size_t i) { return (before[i].mean - units_[i].mean) / units_[i].deviation; };
  std::vector<double> scale(size_t(readout.inputs()), 1.0), shift(scale.size(), 0.0);
  size_t at = 1;
  if (kind == 0) shift[at] = moved(0), scale[at++] = ratio(0);
  for (int64_t back = 1; back < lags_; ++back) scale[at++] = ratio(0);
  for (size_t i = 1; i < units_.size(); ++i) {
    if (kind == 0) shift[at] = moved(i);
    scale[at++] = ratio(i);
  }
  if (season_ > lags_) scale[at + 1] = ratio(0);
  readout.change_units(scale, shift, ratio(0));
}

void SeriesColumn::observe(const SeriesHistory& history, std::span<const RunningScale> scales) {
  now_ = (now_ + 1) % slots_;
  ++rows_;
  measure(scales);
  score_row(history);
  learn(history);
  if (history.known(what_, 0)) {
    const double value = history.at(what_, 0);
    lowest_ = known_ == 0 ? value : std::min(lowest_, value);
    highest_ = known_ == 0 ? value : std::max(highest_, value);
    ++known_;
  }
  predict(history);
}

void SeriesColumn::score_row(const SeriesHistory& history) {
  report_ = {kUnknown, kUnknown, kUnknown, kUnknown, kUnknown, false, kUnknown};
  const bool forecast = rows_ > horizon_, known = history.known(what_, 0);
  const double value = history.at(what_, 0), width = widths_[size_t(slot(horizon_))];
  if (forecast) {
    report_.expected = forecast_of(slot(horizon_))[size_t(horizon_ - 1)];
    report_.low = report_.expected - width;
    report_.high = report_.expected + width;
  }
  if (!known) return;
  for (int64_t step = 1; step <= std::min(horizon_, rows_ - 1); ++step) score_step(history, step, value);
  const double error = rows_ > 1 ? value - forecast_of(slot(1))[0] : kUnknown;
  if (rows_ > 1) {
    report_.surprise = std::log10(1 / surprises_.tail(std::abs(error)));
    surprises_.add(std::abs(error));
  }
  report_.anomaly = novelty_.observe(value, error);
  report_.alarm = report_.anomaly >= alarm_;
  score_.alarms += report_.alarm;
  if (!forecast) return;
  ++score_.rows;
  const double before = score_.mean, missed = std::abs(value - report_.expected);
  score_.mean += (value - before) / double(score_.rows);
  score_.deviations += (value - before) * (value - score_.mean);
  ++score_.intervals;
  score_.inside += missed <= width;
  interval_.learn(missed, width);
}

// The forecast of this value that was made `step` rows ago.
void SeriesColumn::score_step(const SeriesHistory& history, int64_t step, double value) {
  const int64_t from = slot(step), at = step - 1;
  for (int which = 0; which < kExperts; ++which) {
    const double error = bounded((value - expert(from, which)[at]) / units_[0].deviation);
    double& loss = losses_[size_t(which * horizon_ + at)];
    loss = kLossForgetting * loss + (1 - kLossForgetting) * error * error;
  }
  const double error = value - forecast_of(from)[size_t(at)], last = value - history.at(what_, step),
               season = value - expert(from, kSeason)[at];
  ++score_.values;
  score_.squared += error * error;
  score_.absolute += std::abs(error);
  score_.last_squared += last * last;
  score_.last_absolute += std::abs(last);
  if (season_ == 0) return;
  score_.season_squared += season * season;
  score_.season_absolute += std::abs(season);
}

void SeriesColumn::learn(const SeriesHistory& history) {
  if (rows_ <= horizon_) return;
  const double base = history.at(what_, horizon_);
  bool any = false;
  for (int64_t step = 1; step <= horizon_; ++step) {
    const int64_t ago = horizon_ - step;
    const bool known = history.known(what_, ago);
    any = any || known;
    targets_[size_t(step - 1)] =
        known ? bounded((history.at(what_, ago) - base) / units_[0].deviation) : kUnknown;
  }
  if (!any) return;
  for (int kind = 0; kind < kKinds; ++kind) {
    const auto z = std::span(inputs_).first(size_t(input_count(kind)));
    fill_inputs(history, horizon_, kind, z);
    for (int memory = 0; memory < kMemories; ++memory)
      readouts_[size_t(kind * kMemories + memory)].learn(z, targets_);
  }
}

void SeriesColumn::predict(const SeriesHistory& history) {
  const double last = history.at(what_, 0), range = highest_ - lowest_;
  for (int kind = 0; kind < kKinds; ++kind) {
    const auto z = std::span(inputs_).first(size_t(input_count(kind)));
    fill_inputs(history, 0, kind, z);
    for (int memory = 0; memory < kMemories; ++memory) {
      const int which = kind * kMemories + memory;
      const std::span y(expert(now_, which), size_t(horizon_));
      readouts_[size_t(which)].predict(z, y);
      // What lies a whole range outside of all that ever came is no forecast.
      for (double& value : y)
        value = std::clamp(last + bounded(value) * units_[0].deviation, lowest_ - range, highest_ + range);
    }
  }
  for (int64_t step = 1; step <= horizon_; ++step) {
    expert(now_, kLast)[step - 1] = last;
    expert(now_, kSeason)[step - 1] =
        season_ > 0 ? history.at(what_, std::min(seasons_ago(step), history.rows() - 1)) : last;
  }
  mix();
  widths_[size_t(now_)] = interval_.half_width();
  report_.forecast = forecast_of(now_)[size_t(horizon_ - 1)];
}

// Weights fall with the eighth power of the recent loss: twice the loss, 1/256 of the weight.
void SeriesColumn::mix() {
  constexpr double kLeast = 1e-12;
  const int experts = season_ > 0 ? kExperts : kExperts - 1;
  for (int64_t at = 0; at < horizon_; ++at) {
    const auto loss = [&](int which) { return losses_[size_t(which * horizon_ + at)] + kLeast; };
    double best = loss(0), total = 0, sum = 0;
    for (int which = 1; which < experts; ++which) best = std::min(best, loss(which));
    for (int which = 0; which < experts; ++which) {
      const double weight = eighth_power(best / loss(which));
      total += weight;
      sum += weight * expert(now_, which)[at];
    }
    mixed_[size_t(now_ * horizon_ + at)] = sum / total;
  }
}

void SeriesColumn::archive(Archive& archive) {
  archive.whole(now_, 0, slots_ - 1);
  archive.whole(rows_, 0, int64_t(1) << 60);
  archive.whole(known_, 0, int64_t(1) << 60);
  archive.number(lowest_);
  archive.number(highest_);
  for (std::vector<Unit>* units : {&units_, &first_units_})
    for (Unit& unit : *units) {
      archive.number(unit.mean);
      archive.number(unit.deviation);
      if (archive.reading() && !(unit.deviation > 0)) archive.refuse("a deviation in it is not above 0");
    }
  for (RecursiveLeastSquares& readout : readouts_) readout.archive(archive);
  for (std::vector<double>* numbers : {&experts_, &mixed_, &widths_, &losses_}) archive.numbers(*numbers);
  surprises_.archive(archive);
  interval_.archive(archive);
  novelty_.archive(archive);
  score_.archive(archive);
}

double SeriesColumn::least_bytes(int64_t columns, const SeriesSettings& settings) {
  const double horizon = double(settings.horizon), slots = horizon + 1;
  const double seen = double(std::min(columns - 1, kMostSeen));
  const double inputs = 1 + double(settings.lags - 1) + seen + 1 + (settings.season > settings.lags);
  double numbers = 5 + 4 * (seen + 1);  // counts and range, units
  for (const double n : {inputs + 1, inputs}) numbers += kMemories * n * (n + horizon);
  numbers += slots * (kExperts * horizon + horizon + 1) + kExperts * horizon;
  return 8 * numbers + archived_bytes(ErrorDistribution()) + archived_bytes(ConformalInterval(0.5)) +
         archived_bytes(Novelty()) + archived_bytes(SeriesScore());
}

}  // namespace brood
