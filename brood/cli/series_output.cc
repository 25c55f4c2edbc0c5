#include "brood/cli/series_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "brood/base/chart.h"
#include "brood/base/error.h"
#include "brood/base/page.h"
#include "brood/cli/live_source.h"
#include "brood/cli/output.h"
#include "brood/learn/nucleotide_file.h"
#include "brood/learn/series_folder.h"

namespace brood::cli {
namespace {

constexpr size_t kOutputBlock = size_t(1) << 16;

bool is_same(const std::string& one, const std::string& other) {
  std::error_code absent;  // of links to one file, too
  return source_name(one) == source_name(other) || std::filesystem::equivalent(one, other, absent);
}

bool lies_in(const std::string& file, const std::string& folder) {
  const std::string path = source_name(file), begin = source_name(folder) + "/";
  return path.starts_with(begin);
}

}  // namespace

TextFile::TextFile(const std::string& path, int64_t bytes) : path_(path) {
  if (path != "-" && bytes > 0) file_ = std::make_shared<ExactlyOnceFile>(path, bytes);
}

void TextFile::flush_when_long() {
  if (text_.size() > kOutputBlock) flush();
}

void TextFile::flush() {
  if (text_.empty()) return;
  flushed_ = true;
  if (path_ == "-") {
    const std::string text = std::move(text_);  // gone, too, when nobody reads it
    text_.clear();
    write_out(text);
  } else {
    if (!file_) file_ = std::make_shared<ExactlyOnceFile>(path_, 0);
    file_->append(text_);
  }
  text_.clear();
}

void TextFile::sync() {
  flush();
  if (file_) file_->sync();
}

std::string series_page(const SeriesPlot& plot, const std::vector<std::string>& columns,
                        const std::string& title, const std::string& summary) {
  std::string body = "<div class=\"charts\">\n";
  for (size_t i = 0; i < plot.tracks().size(); ++i) {
    const SeriesPlot::Track& track = plot.tracks()[i];
    const auto line = [&](const char* name, int colour, double SeriesPlot::Point::*number) {
      ChartLine drawn{.name = name, .colour = colour};
      for (const SeriesPlot::Point& point : track.points) drawn.points.emplace_back(point.row, point.*number);
      return drawn;
    };
    const std::string weaker =
        track.weaker == 0 ? "" : fmt::format(" ({} weaker alarms are not drawn)", track.weaker);
    Chart chart{
        .title = columns[i] + weaker, .x_label = "row", .y_label = "value, expectation and interval; alarms"};
    chart.lines = {line("lowest expected", 8, &SeriesPlot::Point::low),
                   line("highest expected", 8, &SeriesPlot::Point::high),
                   line("value", 0, &SeriesPlot::Point::value),
                   line("expected", 2, &SeriesPlot::Point::expected)};
    // A dot each, which a line would join.
    std::vector<SeriesPlot::Alarm> alarms = track.alarms;
    std::sort(alarms.begin(), alarms.end(), [](const auto& a, const auto& b) { return a.row < b.row; });
    for (const SeriesPlot::Alarm& alarm : alarms)
      chart.lines.push_back({.name = fmt::format("alarm in row {:.0f}", alarm.row),
                             .colour = 1,
                             .points = {{alarm.row, alarm.value}},
                             .marked = true});
    body += chart_svg(chart);
    Chart surprise{.title = columns[i] + ", surprise", .x_label = "row", .y_label = "−log10 of how rare"};
    surprise.lines = {line("surprise", 3, &SeriesPlot::Point::surprise)};
    body += chart_svg(surprise);
  }
  return html_page(title, summary, body + "</div>\n");
}

void check_outputs(const std::vector<NamedOutput>& outputs, const std::string& in, const std::string& save,
                   bool overwrite) {
  std::error_code absent;
  for (auto output = outputs.begin(); output != outputs.end(); ++output) {
    if (output->path.empty()) continue;
    for (auto other = outputs.begin(); other != output; ++other)
      if (!other->path.empty() && is_same(other->path, output->path))
        fail("live: {} and {} both name {}; give each a file of its own", other->option, output->option,
             output->path);
    if (output->path == "-" && std::string_view(output->option) == "--page")
      fail("live: --page does not go to standard output; name a file");
    if (output->path == "-") continue;
    if (is_same(in == "-" ? "/dev/stdin" : in, output->path) || lies_in(output->path, in))
      fail("live: {} {} would write into what --in reads; name another file", output->option, output->path);
    if (!save.empty() &&
        (is_same(output->path, series_file(save)) || is_same(output->path, nucleotide_file(save)) ||
         lies_in(output->path, journal_of(save))))
      fail("live: {} {} would overwrite what --save keeps; name another file", output->option, output->path);
    require_writable(output->path);
    const bool gone_on_with = output->known && *output->known == source_name(output->path);
    if (!overwrite && !gone_on_with && std::filesystem::exists(output->path, absent))
      fail("live: {} {} is there already; name another file, or replace it by --overwrite", output->option,
           output->path);
  }
}

}  // namespace brood::cli
