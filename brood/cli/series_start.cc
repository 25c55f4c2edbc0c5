#include "brood/cli/series_start.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "brood/base/error.h"
#include "brood/base/file.h"
#include "brood/base/hash.h"
#include "brood/cli/live_source.h"
#include "brood/learn/kept.h"
#include "brood/learn/series_folder.h"
#include "brood/model/directory.h"

namespace brood::cli {
namespace {

KeptSeries nothing_learnt(const SeriesOptions& options) {
  KeptSeries kept{.label = options.label, .settings = options.series, .class_settings = options.classes};
  return kept;
}

KeptSeries learnt_in(const std::string& folder) {
  if (!holds_series(folder) && holds_model(folder))
    fail("live: {} holds a model of bytes; leave --as series out, or name the folder of a series", folder);
  if (!holds_series(folder))
    fail("live: --model {} is no folder with a series; a series begins without a model: leave --model out",
         folder);
  KeptSeries kept = read_series(series_file(folder));
  if (kept.columns.empty())
    fail("live: in {} no row was learnt yet; leave --model out and begin anew", folder);
  return kept;
}

// Whatever tells one beginning from another, but for the source.
std::string beginning(const SeriesOptions& options) {
  std::string text = fmt::format("warm-up {}", options.warm_up);
  if (!options.model.empty()) {
    const MappedFile model = MappedFile::open(series_file(options.model));
    return fmt::format("{:016x} {}", content_hash(model.bytes()), text);
  }
  for (const std::string& column : options.columns)
    text += fmt::format(" column {}:{}", column.size(), column);
  const SeriesSettings& s = options.series;
  text += fmt::format(" time {} label {} {} {} {} {} {} {} {}", options.time, options.label, s.horizon,
                      s.season, s.lags, s.forgetting, s.coverage, s.alarm, options.classes.delay);
  return fmt::format("{:016x}", content_hash(std::as_bytes(std::span(text))));
}

// The run in --save, when this very command began it.
std::optional<KeptSeries> same_run(const SeriesOptions& options, const std::string& begun_with) {
  KeptSeries there = read_series(series_file(options.save));
  const bool same = there.stream && there.stream->begun_with == begun_with &&
                    there.stream->source.name == source_name(options.in);
  if (same) return there;
  if (there.columns.empty()) return std::nullopt;  // nothing is lost
  fail(
      "saving to {}: it already holds a series, begun with other options or from another source; go on with "
      "--model {}, or start over with --overwrite",
      options.save, options.save);
}

}  // namespace

SeriesBeginning begin_series(const SeriesOptions& options) {
  SeriesBeginning begin;
  std::error_code absent;
  const bool same =
      !options.model.empty() && std::filesystem::equivalent(options.save, options.model, absent);
  if (!options.save.empty()) require_room_for(Kept::kSeries, options.save);
  if (!options.save.empty()) begin.alone = SeriesFolder::lock(options.save);
  begin.kept = options.model.empty() ? nothing_learnt(options) : learnt_in(options.model);
  const std::string begun_with = beginning(options);
  if (!same) begin.kept.stream.reset();
  if (!same && !options.overwrite && holds_series(options.save))
    if (std::optional<KeptSeries> there = same_run(options, begun_with)) begin.kept = std::move(*there);
  if (!begin.kept.stream) begin.kept.stream.emplace().begun_with = begun_with;
  if (!begin.kept.label.empty() && !options.page.empty())
    fail("live: --page has no plots of classes; leave it out");
  return begin;
}

}  // namespace brood::cli
