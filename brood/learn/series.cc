#include "brood/learn/series.h"

#include "brood/base/error.h"
#include "brood/base/threads.h"
#include "brood/learn/series_column.h"
#include "brood/senses/table.h"

namespace brood {
namespace {

// Multiplications of a row, some thirty microseconds, below which threads are not worth their waking.
constexpr int64_t kWorthThreads = 60000;

}  // namespace

struct SeriesLearner::Impl {
  Impl(int64_t columns, const SeriesSettings& settings)
      : history(columns, SeriesColumn::look_back(settings)), scales(size_t(columns)) {
    for (int64_t i = 0; i < columns; ++i) learners.emplace_back(i, history, settings);
    reports.resize(size_t(columns));
    const int64_t inputs = settings.lags + columns;
    threaded = columns * inputs * (inputs + settings.horizon) * 8 > kWorthThreads;
  }

  SeriesHistory history;
  std::vector<RunningScale> scales;
  std::vector<SeriesColumn> learners;
  std::vector<SeriesReport> reports;
  bool threaded;
};

SeriesLearner::SeriesLearner(int64_t columns, const SeriesSettings& settings) {
  BROOD_ASSERT(columns > 0 && settings.horizon > 0 && settings.lags > 0 && settings.season >= 0);
  impl_ = std::make_unique<Impl>(columns, settings);
}

SeriesLearner::SeriesLearner(SeriesLearner&&) noexcept = default;
SeriesLearner& SeriesLearner::operator=(SeriesLearner&&) noexcept = default;
SeriesLearner::~SeriesLearner() = default;

void SeriesLearner::observe(std::span<const double> values, double gap) {
  Impl& it = *impl_;
  it.history.push(values, gap);
  for (int64_t i = 0; i < columns(); ++i)
    if (it.history.known(i, 0)) it.scales[size_t(i)].add(it.history.at(i, 0));
  const auto column = [&](int64_t i) {
    it.learners[size_t(i)].observe(it.history, it.scales);
    it.reports[size_t(i)] = it.learners[size_t(i)].report();
  };
  if (it.threaded)
    parallel(columns(), column);
  else
    for (int64_t i = 0; i < columns(); ++i) column(i);
}

std::span<const SeriesReport> SeriesLearner::reports() const { return impl_->reports; }
std::span<const double> SeriesLearner::forecast(int64_t column) const {
  return impl_->learners[size_t(column)].forecast();
}
const SeriesScore& SeriesLearner::score(int64_t column) const {
  return impl_->learners[size_t(column)].score();
}
void SeriesLearner::begin_scores() {
  for (SeriesColumn& learner : impl_->learners) learner.begin_scores();
}
int64_t SeriesLearner::rows() const { return impl_->history.rows(); }
int64_t SeriesLearner::columns() const { return int64_t(impl_->learners.size()); }
int64_t SeriesLearner::prototypes() const {
  int64_t count = 0;
  for (const SeriesColumn& learner : impl_->learners) count += learner.prototypes();
  return count;
}

void SeriesScore::archive(Archive& archive) {
  for (int64_t* count : {&rows, &values, &inside, &intervals, &alarms})
    archive.whole(*count, 0, int64_t(1) << 60);
  for (double* sum : {&squared, &absolute, &last_squared, &last_absolute, &season_squared, &season_absolute,
                      &mean, &deviations})
    archive.number(*sum, false);  // of errors that are huge it may be infinite
}

double SeriesLearner::least_bytes(int64_t columns, const SeriesSettings& settings) {
  return SeriesHistory::archived_bytes(columns, SeriesColumn::look_back(settings)) +
         double(columns) *
             (brood::archived_bytes(RunningScale()) + SeriesColumn::least_bytes(columns, settings));
}

void SeriesLearner::archive(Archive& archive) {
  impl_->history.archive(archive);
  for (RunningScale& scale : impl_->scales) scale.archive(archive);
  for (SeriesColumn& learner : impl_->learners) {
    learner.archive(archive);
    if (archive.reading() && learner.rows() != rows())
      archive.refuse("its columns have not seen the same rows");
  }
}

}  // namespace brood
