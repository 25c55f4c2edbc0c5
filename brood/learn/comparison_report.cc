#include "brood/learn/comparison_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "brood/base/chart.h"
#include "brood/base/progress.h"

namespace brood {
namespace {

using nlohmann::json;

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

double number(const json& value) { return value.is_number() ? value.get<double>() : kUnknown; }

std::string bits(const json& value) {
  return value.is_number() ? fmt::format("{:.3f}", value.get<double>()) : "–";
}
std::string share(const json& value) {
  return value.is_number() ? fmt::format("{:.1f} %", 100 * value.get<double>()) : "–";
}
std::string seconds(const json& value) {
  return value.is_number() ? duration_text(value.get<double>()) : "–";
}
std::string short_of(const json& value) { return short_number(number(value)); }

std::string context_name(int64_t context) {
  return context % 1024 == 0 ? fmt::format("{}k", context / 1024) : fmt::format("{}", context);
}

// What is told of each context: its key in the document, and how the columns are headed.
constexpr std::pair<const char*, const char*> kPerContext[] = {
    {"prefill_bytes_per_second", "read"}, {"decode_bytes_per_second", "write"}, {"state_bytes", "state"}};

std::vector<int64_t> contexts_of(const json& document) {
  std::vector<int64_t> contexts;
  for (const json& model : document["models"])
    if (contexts.empty())
      for (const json& at : model["contexts"]) contexts.push_back(at["context"].get<int64_t>());
  return contexts;
}

// Terminal columns of UTF-8 text: bytes that do not go on with a character.
size_t width(const std::string& text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xc0) != 0x80; }));
}

std::string title_of(const json& document) {
  return document["trained"].get<bool>() ? "Models compared" : "Speeds compared";
}

std::string summary(const json& document) {
  std::string text;
  if (document["trained"].get<bool>()) {
    text = fmt::format(
        "Each model read the same {} of text in the same order, in batches of {} windows of {} bytes, for "
        "{}; "
        "bits per byte are of {} that none of them learnt from. The loss in question is {} bits per byte, a "
        "running mean in training.",
        bytes_text(number(document["data_bytes"])), document["batch"].dump(), document["context"].dump(),
        document["budget"].get<std::string>(), bytes_text(number(document["valid_bytes"])),
        bits(document["loss_bits_per_byte"]));
  } else {
    text = "Weights as they were made, or as they were in the folders named: speeds alone.";
  }
  return text +
         fmt::format(
             " Reading is bytes per second over a whole prompt of that length, writing bytes per second "
             "after it, one byte at a time; state is what a stream then holds. Threads: {}; {}; {}.",
             document["threads"].dump(), document["precision"].get<std::string>(),
             document["cpu"].get<std::string>());
}

Chart learning_chart(const json& document, size_t x, const char* title, const char* label) {
  Chart chart{.title = title, .x_label = label, .y_label = "bits per byte, running mean"};
  int colour = 0;
  for (const json& model : document["models"]) {
    ChartLine line{.name = model["name"], .colour = colour++};
    // The first steps fall from 8 bits and would flatten everything that follows.
    const json& curve = model["curve"];
    for (size_t i = curve.size() / 20; i < curve.size(); ++i)
      line.points.emplace_back(number(curve[i][x]), number(curve[i][2]));
    chart.lines.push_back(std::move(line));
  }
  return chart;
}

Chart context_chart(const json& document, const char* key, const char* title, const char* label) {
  Chart chart{.title = title, .x_label = "bytes of context", .y_label = label, .x_log = true, .y_log = true};
  int colour = 0;
  for (const json& model : document["models"]) {
    ChartLine line{.name = model["name"], .colour = colour++, .marked = true};
    for (const json& at : model["contexts"]) line.points.emplace_back(number(at["context"]), number(at[key]));
    chart.lines.push_back(std::move(line));
  }
  return chart;
}

// Told apart on white and on black, also by most who do not see all colours (after Okabe and Ito 2008).
constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ground: #fff; --ink: #1c1c1c; --faint: #8886;
  --series-0: #0072b2; --series-1: #d55e00; --series-2: #008f66; --series-3: #b8579a; --series-4: #b58900;
  --series-5: #3aa0d8; --series-6: #6b4fbb; --series-7: #8c564b; --series-8: #5f6b6d; --series-9: #c0392b; }
@media (prefers-color-scheme: dark) { :root { --ground: #15171a; --ink: #e4e4e4;
  --series-0: #4aa8e8; --series-1: #ff8a3d; --series-2: #2ec79a; --series-3: #e59acb; --series-4: #f0c53c;
  --series-5: #8fd0f5; --series-6: #a994f0; --series-7: #c99a8e; --series-8: #a9b4b6; --series-9: #ff7b6b; } }
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 84rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; margin: 1rem 0;
  font-size: 14px; }
th, td { padding: .3rem .45rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .5em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1.5rem; }
svg { width: 100%; height: auto; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
svg .title { font-size: 14px; font-weight: 600; }
svg .grid { stroke: var(--faint); stroke-width: 1; }
svg .mark { fill-opacity: .75; }
)";

std::string html_table(const json& document) {
  std::string out = "<div class=\"scroll\"><table>\n";
  int colour = -1;
  for (const auto& row : comparison_cells(document)) {
    const char* cell = colour < 0 ? "th" : "td";
    out += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string swatch =
          i == 0 && colour >= 0
              ? fmt::format("<span class=\"swatch\" style=\"background: var(--series-{})\"></span>",
                            colour % kChartColours)
              : "";
      out += fmt::format("<{0}>{1}{2}</{0}>", cell, swatch, escape_html(row[i]));
    }
    out += "</tr>\n";
    ++colour;
  }
  return out + "</table></div>\n";
}

}  // namespace

std::vector<std::vector<std::string>> comparison_cells(const json& document) {
  const bool trained = document["trained"].get<bool>();
  const std::vector<int64_t> contexts = contexts_of(document);
  std::vector<std::vector<std::string>> rows(1, {"model", "weights"});
  if (trained) {
    rows[0].insert(rows[0].end(), {"bits/byte", "to " + bits(document["loss_bits_per_byte"])});
  }
  rows[0].insert(rows[0].end(), {"train/s", "memory", "awake"});
  for (const auto& [key, heading] : kPerContext)
    for (const int64_t context : contexts)
      rows[0].push_back(fmt::format("{} {}", heading, context_name(context)));

  for (const json& model : document["models"]) {
    std::vector<std::string> row{model["name"].get<std::string>(), short_of(model["parameters"])};
    if (trained) row.insert(row.end(), {bits(model["bits_per_byte"]), seconds(model["seconds_to_loss"])});
    row.insert(row.end(), {short_of(model["train_bytes_per_second"]), short_of(model["peak_memory_bytes"]),
                           share(model["awake"])});
    for (const auto& [key, heading] : kPerContext)
      for (const json& at : model["contexts"]) row.push_back(short_of(at[key]));
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string comparison_table(const json& document) {
  const auto rows = comparison_cells(document);
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string room(widths[i] - width(row[i]), ' ');
      line += i == 0 ? row[i] + room : "  " + room + row[i];
    }
    text += line + "\n";
  }
  return text;
}

std::string comparison_page(const json& document) {
  std::string charts;
  if (document["trained"].get<bool>()) {
    charts += chart_svg(learning_chart(document, 0, "Learning, by time", "seconds of training"));
    charts += chart_svg(learning_chart(document, 1, "Learning, by bytes read", "bytes"));
  }
  charts += chart_svg(
      context_chart(document, "decode_bytes_per_second", "Writing, one byte at a time", "bytes per second"));
  charts +=
      chart_svg(context_chart(document, "prefill_bytes_per_second", "Reading a prompt", "bytes per second"));
  charts += chart_svg(context_chart(document, "state_bytes", "State of one stream", "bytes"));
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n"
      "<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<p>{2}</p>\n{3}<div class=\"charts\">\n{4}</div>\n"
      "</body>\n</html>\n",
      title_of(document), kStyle, escape_html(summary(document)), html_table(document), charts);
}

}  // namespace brood
