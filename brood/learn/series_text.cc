#include "brood/learn/series_text.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "brood/base/csv.h"

namespace brood {
namespace {

void add_number(std::string& text, double x, const char* missing) {
  if (std::isfinite(x))
    fmt::format_to(std::back_inserter(text), "{:.9g}", x);
  else
    text += missing;
}

void add_json(std::string& text, std::string_view value) {
  text += nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct Said {
  const char* name;
  double SeriesReport::*number;
};
constexpr Said kSaid[] = {{"expected", &SeriesReport::expected}, {"low", &SeriesReport::low},
                          {"high", &SeriesReport::high},         {"surprise", &SeriesReport::surprise},
                          {"anomaly", &SeriesReport::anomaly},   {"forecast", &SeriesReport::forecast}};

void add_series_csv(std::string& text, const TableRow& row, std::span<const SeriesReport> reports) {
  add_field(text, row.time_text);
  for (size_t i = 0; i < reports.size(); ++i) {
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

void add_series_json(std::string& text, std::span<const std::string> columns, const TableRow& row,
                     std::span<const SeriesReport> reports) {
  text += "{\"time\":";
  add_json(text, row.time_text);
  for (size_t i = 0; i < columns.size(); ++i) {
    text += ',';
    add_json(text, columns[i]);
    text += ":{\"value\":";
    add_number(text, row.values[i], "null");
    for (const Said& said : kSaid) {
      fmt::format_to(std::back_inserter(text), ",\"{}\":", said.name);
      add_number(text, reports[i].*said.number, "null");
    }
    text += reports[i].alarm ? ",\"alarm\":true}" : ",\"alarm\":false}";
  }
  text += "}\n";
}

}  // namespace

RowFormat format_of(std::string_view path) {
  return path.ends_with(".jsonl") || path.ends_with(".ndjson") ? RowFormat::kJsonLines : RowFormat::kCsv;
}

void add_series_head(std::string& text, RowFormat format, std::span<const std::string> columns) {
  if (format == RowFormat::kJsonLines) return;
  text += "time";
  for (const std::string& column : columns) {
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
}

void add_series_row(std::string& text, RowFormat format, std::span<const std::string> columns,
                    const TableRow& row, std::span<const SeriesReport> reports) {
  if (format == RowFormat::kJsonLines)
    add_series_json(text, columns, row, reports);
  else
    add_series_csv(text, row, reports);
}

void add_class_head(std::string& text, RowFormat format) {
  if (format == RowFormat::kCsv) text += "time,label,predicted,probability\n";
}

void add_class_row(std::string& text, RowFormat format, const TableRow& row, const ClassLearner& learner) {
  const int64_t predicted = learner.predicted();
  const std::string_view name = predicted < 0 ? std::string_view() : learner.names()[size_t(predicted)];
  const double probability = predicted < 0 ? NAN : learner.probabilities()[size_t(predicted)];
  if (format == RowFormat::kJsonLines) {
    text += "{\"time\":";
    add_json(text, row.time_text);
    text += ",\"label\":";
    add_json(text, row.label);
    text += ",\"predicted\":";
    add_json(text, name);
    text += ",\"probability\":";
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
}

void add_rejected_head(std::string& text) { text += "line,reason,row\n"; }

void add_rejected_row(std::string& text, const RejectedRow& row) {
  fmt::format_to(std::back_inserter(text), "{},", row.line);
  add_field(text, row.reason);
  text += ',';
  add_field(text, row.text);
  text += '\n';
}

}  // namespace brood
