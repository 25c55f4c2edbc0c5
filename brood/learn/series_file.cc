#include "brood/learn/series_file.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "brood/base/crc32.h"
#include "brood/base/error.h"
#include "brood/base/file.h"
#include "brood/base/memory.h"

namespace brood {
namespace {

constexpr std::string_view kMagic = "BRSE";
constexpr int64_t kFormat = 1;
constexpr size_t kMostNameBytes = 256, kCheckBytes = 4;

std::array<uint8_t, 4> check_of(std::span<const std::byte> bytes) {
  const uint32_t crc = crc32({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  return {uint8_t(crc), uint8_t(crc >> 8), uint8_t(crc >> 16), uint8_t(crc >> 24)};
}

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
  archive.whole(columns, 1, kMostSeriesColumns);
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

// Of matrices, forecasts and last rows: nearly all there is.
double least_bytes(const KeptSeries& kept) {
  const double columns = double(kept.columns.size());
  if (!kept.label.empty()) {
    const ClassSettings& classes = kept.class_settings;
    return 8 *
           (columns * double(std::max(classes.window, classes.season)) + 4 * columns * double(classes.delay));
  }
  const double inputs = double(kept.settings.lags), horizon = double(kept.settings.horizon);
  const double rows = double(std::max(kept.settings.season, kept.settings.lags)) + horizon;
  return 8 * columns * (4 * inputs * (inputs + horizon) + 7 * horizon * (horizon + 1) + rows);
}

}  // namespace

void KeptSeries::begin() {
  const auto count = int64_t(columns.size());
  if (label.empty())
    forecasts.emplace(count, settings);
  else
    classes.emplace(count, class_settings);
}

void check_series(const KeptSeries& kept) {
  constexpr double kBesides = 3e5;  // bytes of a column
  KeptSeries with_others{.columns = kept.columns,
                         .label = kept.label,
                         .settings = kept.settings,
                         .class_settings = kept.class_settings};
  with_others.settings.lags += std::min<int64_t>(int64_t(kept.columns.size()), 20);
  require_memory(least_bytes(with_others) + kBesides * double(kept.columns.size()),
                 fmt::format("series: the learners of {} columns", kept.columns.size()),
                 "choose fewer --columns, or a smaller --horizon");
}

void write_series(const std::string& path, KeptSeries& kept, FileSystem& files) {
  Archive archive;
  archive_head(archive, kept);
  archive_learner(archive, kept);
  std::vector<std::byte> bytes = archive.take();
  for (const uint8_t byte : check_of(bytes)) bytes.push_back(std::byte(byte));
  write_durably(files, path, bytes);
}

KeptSeries parse_series(std::span<const std::byte> bytes, const std::string& name) {
  if (bytes.size() < kCheckBytes) fail("reading {}: it is too short for a series", name);
  const auto body = bytes.first(bytes.size() - kCheckBytes);
  const auto check = check_of(body);
  if (std::memcmp(check.data(), bytes.data() + body.size(), kCheckBytes) != 0)
    fail("reading {}: it is no series, or it is damaged", name);
  Archive archive(body, name);
  KeptSeries kept;
  archive_head(archive, kept);
  archive.expect(least_bytes(kept));
  kept.begin();
  archive_learner(archive, kept);
  archive.end();
  return kept;
}

KeptSeries read_series(const std::string& path) { return parse_series(MappedFile::open(path).bytes(), path); }

}  // namespace brood
