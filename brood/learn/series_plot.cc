#include "brood/learn/series_plot.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <tuple>

namespace brood {
namespace {

bool stronger(const SeriesPlot::Alarm& a, const SeriesPlot::Alarm& b) {
  return std::tie(a.anomaly, b.row) > std::tie(b.anomaly, a.row);  // the earlier of two that are equal
}

// A list of records of doubles.
template <class Record>
void archive_records(Archive& archive, std::vector<Record>& records, size_t most) {
  constexpr size_t kNumbers = sizeof(Record) / sizeof(double);
  int64_t count = int64_t(records.size());
  archive.whole(count, 0, int64_t(most));
  archive.expect(double(count) * sizeof(Record));
  records.resize(size_t(count));
  for (Record& record : records) archive.numbers({&record.row, kNumbers}, false);
}

}  // namespace

void SeriesPlot::add(int64_t row, std::span<const double> values, std::span<const SeriesReport> reports) {
  for (size_t i = 0; i < tracks_.size(); ++i) {
    const SeriesReport& said = reports[i];
    Track& track = tracks_[i];
    if (said.alarm) {  // the weakest is at the front of the heap
      track.alarms.push_back({double(row), values[i], said.anomaly});
      std::push_heap(track.alarms.begin(), track.alarms.end(), stronger);
    }
    if (track.alarms.size() > kMostAlarms) {
      std::pop_heap(track.alarms.begin(), track.alarms.end(), stronger);
      track.alarms.pop_back();
      ++track.weaker;
    }
    if (row % stride_ == 0)
      track.points.push_back({double(row), values[i], said.expected, said.low, said.high, said.surprise});
  }
  if (tracks_.empty() || tracks_[0].points.size() < kMostPoints) return;
  stride_ *= 2;
  for (Track& track : tracks_)
    std::erase_if(track.points, [&](const Point& point) { return int64_t(point.row) % stride_ != 0; });
}

void SeriesPlot::archive(Archive& archive) {
  constexpr int64_t kMostRows = int64_t(1) << 52;  // that a double counts
  archive.whole(stride_, 1, kMostRows);
  for (Track& track : tracks_) {
    archive_records(archive, track.points, kMostPoints - 1);
    archive_records(archive, track.alarms, kMostAlarms);
    archive.whole(track.weaker, 0, int64_t(1) << 60);
    if (!archive.reading()) continue;
    const auto is_row = [](double row) {
      return 0 <= row && row < double(kMostRows) && row == std::floor(row);
    };
    double last = -1;
    for (const Point& point : track.points) {
      if (!is_row(point.row) || point.row <= last || int64_t(point.row) % stride_ != 0)
        archive.refuse("a point of its plot cannot be");
      last = point.row;
    }
    for (const Alarm& alarm : track.alarms)
      if (!is_row(alarm.row) || !std::isfinite(alarm.anomaly))
        archive.refuse("an alarm of its plot cannot be");
    if (!std::is_heap(track.alarms.begin(), track.alarms.end(), stronger))
      archive.refuse("the alarms of its plot are not in their order");
  }
  if (archive.reading() && !std::has_single_bit(uint64_t(stride_))) archive.refuse("its plot cannot be");
}

}  // namespace brood
