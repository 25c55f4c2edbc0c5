#include "brood/learn/series_file.h"

#include <algorithm>

#include "brood/base/error.h"
#include "brood/base/file.h"
#include "brood/base/memory.h"

namespace brood {
namespace {

constexpr std::string_view kMagic = "BRSE";
constexpr int64_t kFormat = 2;
constexpr size_t kMostNameBytes = 256;
constexpr size_t kMostPathBytes = 1 << 14, kMostSentenceBytes = 1 << 12, kMostReaderBytes = 4 << 20;
constexpr int64_t kMostCount = int64_t(1) << 60;

void archive_settings(Archive& archive, KeptSeries& kept) {
  SeriesSettings& settings = kept.settings;
  archive.whole(settings.horizon, 1, kMostHorizon);
  archive.whole(settings.season, 0, kMostSeason);
  archive.whole(settings.lags, 1, kMostLags);
  for (double* share : {&settings.forgetting, &settings.coverage}) {
    archive.number(*share);
    if (archive.reading() && !(*share > 0 && *share <= 1)) archive.refuse("a share in it is none");
  }
  archive.number(settings.alarm);
  ClassSettings& classes = kept.class_settings;
  archive.whole(classes.delay, 1, kMostDelay);
  archive.whole(classes.season, 0, kMostSeason);
  archive.whole(classes.window, 1, kMostLags);
  archive.number(classes.rate);
}

void archive_head(Archive& archive, KeptSeries& kept) {
  std::string magic(kMagic);
  int64_t format = kFormat, columns = int64_t(kept.columns.size());
  archive.text(magic, kMagic.size());
  if (magic != kMagic) archive.refuse("it is no series");
  archive.whole(format, kFormat, kFormat);
  archive_settings(archive, kept);
  archive.whole(columns, 0, kMostSeriesColumns);
  kept.columns.resize(size_t(columns));
  for (std::string& name : kept.columns) archive.text(name, kMostNameBytes);
  archive.text(kept.time, kMostNameBytes);
  archive.text(kept.label, kMostNameBytes);
  archive.number(kept.last_time, false);
}

void archive_learner(Archive& archive, KeptSeries& kept) {
  if (kept.forecasts) kept.forecasts->archive(archive);
  if (kept.classes) kept.classes->archive(archive);
}

void archive_source(Archive& archive, StreamSource& source) {
  int64_t check = source.check, ended = source.ended;
  archive.text(source.name, kMostPathBytes);
  archive.whole(source.taken, 0, kMostCount);
  archive.whole(check, 0, UINT32_MAX);
  archive.whole(ended, 0, 1);
  source.check = uint32_t(check);
  source.ended = ended != 0;
}

void archive_stream(Archive& archive, KeptSeries& kept) {
  int64_t there = kept.stream.has_value();
  archive.whole(there, 0, 1);
  if (there == 0) return;
  if (!kept.stream) kept.stream.emplace();
  SeriesStream& stream = *kept.stream;
  int64_t name = int64_t(stream.journal);
  archive.whole(name, INT64_MIN, INT64_MAX);
  stream.journal = uint64_t(name);
  archive.text(stream.begun_with, kMostSentenceBytes + kMostSeriesColumns * kMostNameBytes);
  archive_source(archive, stream.source);
  archive.text(stream.reader, kMostReaderBytes);
  archive.text(stream.last_time, kMostNameBytes);
  for (int64_t* count : {&stream.rows, &stream.rejected, &stream.late}) archive.whole(*count, 0, kMostCount);
  archive.text(stream.first_rejected, kMostSentenceBytes);
  for (SeriesStream::Output* output : {&stream.out, &stream.rejects, &stream.page}) {
    archive.text(output->path, kMostPathBytes);
    archive.whole(output->bytes, 0, kMostCount);
  }
  int64_t plot = stream.plot.has_value();
  archive.whole(plot, 0, 1);
  if (plot == 1 && !stream.plot) stream.plot.emplace(int64_t(kept.columns.size()));
  if (stream.plot) stream.plot->archive(archive);
}

double least_bytes(const KeptSeries& kept) {
  const auto columns = int64_t(kept.columns.size());
  if (columns == 0) return 0;
  return kept.label.empty() ? SeriesLearner::least_bytes(columns, kept.settings)
                            : ClassLearner::least_bytes(columns, kept.class_settings);
}

}  // namespace

int64_t KeptSeries::rows() const { return forecasts ? forecasts->rows() : classes ? classes->rows() : 0; }

void KeptSeries::begin() {
  const auto count = int64_t(columns.size());
  if (label.empty())
    forecasts.emplace(count, settings);
  else
    classes.emplace(count, class_settings);
}

void check_series(const KeptSeries& kept) {
  require_memory(least_bytes(kept), fmt::format("series: the learners of {} columns", kept.columns.size()),
                 "choose fewer --columns, or a smaller --horizon");
}

std::vector<std::byte> series_bytes(KeptSeries& kept) {
  Archive archive;
  archive_head(archive, kept);
  archive_learner(archive, kept);
  archive_stream(archive, kept);
  return archive.take_checked();
}

void write_series(const std::string& path, KeptSeries& kept, FileSystem& files) {
  write_durably(files, path, series_bytes(kept));
}

KeptSeries parse_series(std::span<const std::byte> bytes, const std::string& name) {
  Archive archive(Archive::checked(bytes, name), name);
  KeptSeries kept;
  archive_head(archive, kept);
  archive.expect(least_bytes(kept));
  if (!kept.columns.empty()) kept.begin();
  archive_learner(archive, kept);
  archive_stream(archive, kept);
  archive.end();
  return kept;
}

KeptSeries read_series(const std::string& path) { return parse_series(MappedFile::open(path).bytes(), path); }

}  // namespace brood
