#include <algorithm>
#include <cmath>

#include "brood/learn/series_column.h"
#include "brood/senses/table.h"

namespace brood {
namespace {

constexpr double kOldest = 1e-3;  // weight of a row in the mean of about the last thousand
constexpr int64_t kSettled = 20;
constexpr int64_t kMostOutliers = 512;
constexpr double kOutlier = 10;  // deviations: what is beyond counts as that far
constexpr double kGapRate = 0.01, kMostGap = 8;

}  // namespace

void RunningScale::add(double x) {
  ++count_;
  // An outlier counts as much less than it is; one after the other counts ever more, for then it is no outlier. After
  // nothing but one value there is no telling.
  const double most = kOutlier * deviation() * std::exp2(double(outliers_));
  if (count_ > kSettled && variance_ > 0 && std::abs(x - mean_) > most) {
    x = std::clamp(x, mean_ - most, mean_ + most);
    outliers_ = std::min(outliers_ + 1, kMostOutliers);
  } else {
    outliers_ = 0;
  }
  const double weight = std::max(1 / double(count_), kOldest), step = x - mean_;
  mean_ += weight * step;
  variance_ = (1 - weight) * (variance_ + weight * step * step);
}

// Never 0: where nothing changes a billionth of it is rounding.
double RunningScale::deviation() const {
  return std::max({std::sqrt(variance_), 1e-9 * std::abs(mean_), 1e-150});
}

void RunningScale::archive(Archive& archive) {
  archive.whole(count_, 0, int64_t(1) << 60);
  archive.whole(outliers_, 0, kMostOutliers);
  archive.number(mean_);
  archive.number(variance_);
  if (archive.reading() && variance_ < 0) archive.refuse("a variance in it is below 0");
}

SeriesHistory::SeriesHistory(int64_t columns, int64_t rows)
    : columns_(columns),
      capacity_(rows),
      values_(size_t(rows * columns)),
      gaps_(size_t(rows)),
      known_(size_t(rows * columns)) {}

void SeriesHistory::push(std::span<const double> values, double gap) {
  const bool first = count_ == 0;
  const size_t last = first ? 0 : row(0) * size_t(columns_);
  ++count_;
  const size_t now = row(0) * size_t(columns_);
  for (size_t i = 0; i < size_t(columns_); ++i) {
    const bool known = std::abs(values[i]) <= kLargestValue;  // NaN is not
    known_[now + i] = known;
    values_[now + i] = known ? values[i] : first ? 0 : values_[last + i];
  }
  const bool timed = std::isfinite(gap) && gap > 0;
  if (timed && usual_gap_ == 0) usual_gap_ = gap;
  const double against = timed ? std::clamp(std::log2(gap / usual_gap_), -kMostGap, kMostGap) : 0;
  gaps_[row(0)] = std::abs(against) < 0.01 ? 0 : against;
  // A step towards the median.
  if (timed) usual_gap_ *= gap > usual_gap_ ? 1 + kGapRate : gap < usual_gap_ ? 1 - kGapRate : 1;
}

double SeriesHistory::archived_bytes(int64_t columns, int64_t rows) {
  return 16 + double(rows) * (8 + double(columns) * 9);
}

void SeriesHistory::archive(Archive& archive) {
  archive.whole(count_, 0, int64_t(1) << 60);
  archive.number(usual_gap_);
  if (archive.reading() && usual_gap_ < 0) archive.refuse("a gap in it is below 0");
  archive.numbers(values_);
  archive.numbers(gaps_);
  archive.bytes(known_);
}

}  // namespace brood
