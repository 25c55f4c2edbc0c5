#include "brood/learn/series_plot.h"

#include <algorithm>
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
  archive.whole(stride_, 1, int64_t(1) << 60);
  for (Track& track : tracks_) {
    archive_records(archive, track.points, kMostPoints);
    archive_records(archive, track.alarms, kMostAlarms);
    archive.whole(track.weaker, 0, int64_t(1) << 60);
  }
}

}  // namespace brood
