#include "brood/cli/series_output.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "brood/base/chart.h"
#include "brood/base/error.h"
#include "brood/base/page.h"
#include "brood/cli/output.h"

namespace brood::cli {
namespace {

constexpr size_t kOutputBlock = size_t(1) << 16;
constexpr size_t kMostPoints = 4000, kMostAlarms = 4000;  // of one chart

void add_number(std::string& text, double x, const char* missing) {
  if (std::isfinite(x))
    fmt::format_to(std::back_inserter(text), "{:.9g}", x);
  else
    text += missing;
}

bool is_json(const std::string& path) { return path.ends_with(".jsonl") || path.ends_with(".ndjson"); }

std::string json_text(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct Said {
  const char* name;
  double SeriesReport::*number;
};
constexpr Said kSaid[] = {{"expected", &SeriesReport::expected}, {"low", &SeriesReport::low},
                          {"high", &SeriesReport::high},         {"surprise", &SeriesReport::surprise},
                          {"anomaly", &SeriesReport::anomaly},   {"forecast", &SeriesReport::forecast}};

}  // namespace

TextFile::TextFile(const std::string& path) : path_(path) {
  if (path != "-") file_ = FileSystem::real().create(path);
}

TextFile::~TextFile() = default;

void TextFile::flush() {
  if (text_.empty()) return;
  if (file_)
    file_->append(std::as_bytes(std::span(text_)));
  else
    write_out(text_);
  text_.clear();
}

void TextFile::finish() {
  flush();
  if (!file_) return;
  file_->sync();
  file_->close();
}

void add_field(std::string& text, std::string_view field) {
  if (field.find_first_of(",\"\r\n") == std::string_view::npos) {
    text += field;
    return;
  }
  text += '"';
  for (const char c : field) {
    if (c == '"') text += '"';
    text += c;
  }
  text += '"';
}

SeriesRows::SeriesRows(const std::string& path, std::vector<std::string> columns)
    : json_(is_json(path)), file_(path), columns_(std::move(columns)) {}

void SeriesRows::add(const TableRow& row, std::span<const SeriesReport> reports) {
  if (json_)
    add_json(row, reports);
  else
    add_csv(row, reports);
  if (file_.text().size() > kOutputBlock) file_.flush();
}

void SeriesRows::add_csv(const TableRow& row, std::span<const SeriesReport> reports) {
  std::string& text = file_.text();
  if (!begun_) {
    text += "time";
    for (const std::string& column : columns_) {
      text += ',';
      add_field(text, column);
      for (const Said& said : kSaid) {
        text += ',';
        add_field(text, column + "." + said.name);
      }
      text += ',';
      add_field(text, column + ".alarm");
    }
    text += '\n';
    begun_ = true;
  }
  add_field(text, row.time_text);
  for (size_t i = 0; i < columns_.size(); ++i) {
    text += ',';
    add_number(text, row.values[i], "");
    for (const Said& said : kSaid) {
      text += ',';
      add_number(text, reports[i].*said.number, "");
    }
    text += reports[i].alarm ? ",1" : ",0";
  }
  text += '\n';
}

void SeriesRows::add_json(const TableRow& row, std::span<const SeriesReport> reports) {
  std::string& text = file_.text();
  text += "{\"time\":" + json_text(row.time_text);
  for (size_t i = 0; i < columns_.size(); ++i) {
    text += "," + json_text(columns_[i]) + ":{\"value\":";
    add_number(text, row.values[i], "null");
    for (const Said& said : kSaid) {
      fmt::format_to(std::back_inserter(text), ",\"{}\":", said.name);
      add_number(text, reports[i].*said.number, "null");
    }
    text += reports[i].alarm ? ",\"alarm\":true}" : ",\"alarm\":false}";
  }
  text += "}\n";
}

ClassRows::ClassRows(const std::string& path) : json_(is_json(path)), file_(path) {
  if (!json_) file_.text() += "time,label,predicted,probability\n";
}

void ClassRows::add(const TableRow& row, const ClassLearner& learner) {
  const int64_t predicted = learner.predicted();
  const std::string_view name = predicted < 0 ? std::string_view() : learner.names()[size_t(predicted)];
  const double probability = predicted < 0 ? NAN : learner.probabilities()[size_t(predicted)];
  std::string& text = file_.text();
  if (json_) {
    text += "{\"time\":" + json_text(row.time_text) + ",\"label\":" + json_text(row.label);
    text += ",\"predicted\":" + json_text(name) + ",\"probability\":";
    add_number(text, probability, "null");
    text += '}';
  } else {
    for (const std::string_view field : {row.time_text, row.label, name}) {
      add_field(text, field);
      text += ',';
    }
    add_number(text, probability, "");
  }
  text += '\n';
  if (text.size() > kOutputBlock) file_.flush();
}

RejectedRows::RejectedRows(const std::string& path) {
  if (path.empty()) return;
  file_ = std::make_unique<TextFile>(path);
  file_->text() += "line,reason,row\n";
}

void RejectedRows::add(const RejectedRow& row) {
  if (count_++ == 0) first_ = fmt::format("line {}: {}", row.line, row.reason);
  if (!file_) return;
  std::string& text = file_->text();
  fmt::format_to(std::back_inserter(text), "{},", row.line);
  add_field(text, row.reason);
  text += ',';
  add_field(text, row.text);
  text += '\n';
  if (text.size() > kOutputBlock) file_->flush();
}

void RejectedRows::flush() {
  if (file_) file_->flush();
}

void RejectedRows::finish() {
  if (file_) file_->finish();
}

SeriesPage::SeriesPage(std::vector<std::string> columns)
    : columns_(std::move(columns)), tracks_(columns_.size()) {}

void SeriesPage::add(int64_t row, std::span<const double> values, std::span<const SeriesReport> reports) {
  for (size_t i = 0; i < tracks_.size(); ++i) {
    const SeriesReport& said = reports[i];
    Track& track = tracks_[i];
    if (said.alarm && track.alarms.size() < kMostAlarms) track.alarms.emplace_back(double(row), values[i]);
    if (row % stride_ == 0)
      track.points.push_back({double(row), values[i], said.expected, said.low, said.high, said.surprise});
  }
  if (tracks_.empty() || tracks_[0].points.size() < kMostPoints) return;
  stride_ *= 2;
  for (Track& track : tracks_)
    std::erase_if(track.points, [&](const Point& point) { return int64_t(point.row) % stride_ != 0; });
}

std::string SeriesPage::html(const std::string& title, const std::string& summary) const {
  std::string body = "<div class=\"charts\">\n";
  for (size_t i = 0; i < tracks_.size(); ++i) {
    const auto line = [&](const char* name, int colour, double Point::*number) {
      ChartLine drawn{.name = name, .colour = colour};
      for (const Point& point : tracks_[i].points) drawn.points.emplace_back(point.row, point.*number);
      return drawn;
    };
    Chart chart{.title = columns_[i], .x_label = "row", .y_label = "value, expectation and interval; alarms"};
    chart.lines = {line("lowest expected", 8, &Point::low), line("highest expected", 8, &Point::high),
                   line("value", 0, &Point::value), line("expected", 2, &Point::expected)};
    // A dot each, which a line would join.
    for (const auto& alarm : tracks_[i].alarms)
      chart.lines.push_back({.name = fmt::format("alarm in row {:.0f}", alarm.first),
                             .colour = 1,
                             .points = {alarm},
                             .marked = true});
    body += chart_svg(chart);
    Chart surprise{.title = columns_[i] + ", surprise", .x_label = "row", .y_label = "−log10 of how rare"};
    surprise.lines = {line("surprise", 3, &Point::surprise)};
    body += chart_svg(surprise);
  }
  return html_page(title, summary, body + "</div>\n");
}

}  // namespace brood::cli
