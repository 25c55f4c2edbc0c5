#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "brood/base/chart.h"
#include "brood/learn/comparison_claims.h"
#include "brood/learn/comparison_report.h"

namespace brood {
namespace {

// The same model has the same colour everywhere.
std::map<std::string, int> colours_of(const Comparison& comparison) {
  std::map<std::string, int> colours;
  for (const ComparedModel& model : comparison.models)
    if (is_reported(model)) colours.emplace(model.name, int(colours.size()));
  return colours;
}

template <class Points>
Chart chart_of(const Comparison& comparison, Chart chart, const Points& points) {
  const auto colours = colours_of(comparison);
  for (const ComparedModel& model : comparison.models) {
    if (!is_reported(model)) continue;
    ChartLine line{.name = model.name, .colour = colours.at(model.name), .marked = chart.x_log};
    points(model, line.points);
    chart.lines.push_back(std::move(line));
  }
  return chart;
}

template <class X>
std::string learning_svg(const Comparison& comparison, const char* title, const char* label, const X& x) {
  const Chart chart{.title = title, .x_label = label, .y_label = "bits per byte, running mean"};
  return chart_svg(chart_of(comparison, chart, [&](const ComparedModel& model, auto& points) {
    // The first steps fall from 8 bits and would flatten everything that follows.
    for (size_t i = model.curve.size() / 20; i < model.curve.size(); ++i)
      points.emplace_back(x(model.curve[i]), model.curve[i].bits);
  }));
}

template <class Y>
std::string context_svg(const Comparison& comparison, const char* title, const char* label, const Y& y) {
  const Chart chart{
      .title = title, .x_label = "bytes of context", .y_label = label, .x_log = true, .y_log = true};
  return chart_svg(chart_of(comparison, chart, [&](const ComparedModel& model, auto& points) {
    for (const ContextMeasure& at : model.contexts) points.emplace_back(double(at.context), double(y(at)));
  }));
}

std::string charts(const Comparison& comparison, bool trained) {
  std::string svg;
  if (trained) {
    svg += learning_svg(comparison, "Learning, by time", "seconds of training",
                        [](const CurvePoint& p) { return p.seconds; });
    svg += learning_svg(comparison, "Learning, by bytes read", "bytes",
                        [](const CurvePoint& p) { return double(p.bytes); });
  }
  const auto has_contexts = [](const ComparedModel& model) { return !model.contexts.empty(); };
  if (std::none_of(comparison.models.begin(), comparison.models.end(), has_contexts)) return svg;
  svg += context_svg(comparison, "Reading a prompt", "bytes per second",
                     [](const ContextMeasure& at) { return at.read; });
  svg += context_svg(comparison, "Writing, one byte at a time", "bytes per second",
                     [](const ContextMeasure& at) { return at.write; });
  svg += context_svg(comparison, "State of one stream", "bytes",
                     [](const ContextMeasure& at) { return at.state_bytes; });
  return svg;
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
h2 { font-size: 1.1rem; margin: 2rem 0 0; }
p { max-width: 60rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; margin: 1rem 0;
  font-size: 14px; }
th, td { padding: .3rem .45rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
.words td:last-child { white-space: normal; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .5em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1.5rem; }
svg { width: 100%; height: auto; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
svg .title { font-size: 14px; font-weight: 600; }
svg .grid { stroke: var(--faint); stroke-width: 1; }
svg .mark { fill-opacity: .75; }
)";

std::string swatch(int colour) {
  return fmt::format("<span class=\"swatch\" style=\"background: var(--series-{})\"></span>",
                     colour % kChartColours);
}

// Names that have a colour get it beside them.
std::string html_table(const ReportTable& table, const std::map<std::string, int>& colours,
                       const char* kind) {
  std::string out = table.title.empty() ? "" : fmt::format("<h2>{}</h2>\n", escape_html(table.title));
  out += fmt::format("<div class=\"scroll\"><table class=\"{}\">\n", kind);
  for (const auto& row : table.rows) {
    const bool heading = &row == &table.rows[0];
    out += "<tr>";
    for (const std::string& text : row) {
      const auto colour = heading ? colours.end() : colours.find(text);
      out += fmt::format("<{0}>{1}{2}</{0}>", heading ? "th" : "td",
                         colour == colours.end() ? "" : swatch(colour->second), escape_html(text));
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

ReportTable table_of_claims(const Comparison& comparison) {
  ReportTable table{"What is claimed, and what was measured here",
                    {{"claim", "model", "verdict", "measured"}}};
  std::string before;
  for (const Claim& claim : comparison_claims(comparison)) {
    const std::string against = claim.against.empty() ? "" : ", against " + claim.against;
    table.rows.push_back({claim.claim == before ? "" : claim.claim, claim.model, verdict_text(claim.verdict),
                          claim.measured + against});
    before = claim.claim;
  }
  return table;
}

}  // namespace

std::string comparison_page(const Comparison& comparison) {
  const bool trained = comparison.conditions["trained"].get<bool>();
  const auto colours = colours_of(comparison);
  const std::vector<ReportTable> tables = comparison_tables(comparison);
  std::string body = html_table(tables[0], colours, "figures");
  const ReportTable claims = table_of_claims(comparison);
  if (claims.rows.size() > 1) body += html_table(claims, colours, "words");
  body += fmt::format("<div class=\"charts\">\n{}</div>\n", charts(comparison, trained));
  body += "<div class=\"charts\">\n";
  for (size_t i = 1; i < tables.size(); ++i)
    body += "<div>\n" + html_table(tables[i], colours, "figures") + "</div>\n";
  body += "</div>\n";
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n"
      "<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<p>{2}</p>\n{3}</body>\n</html>\n",
      trained ? "Models compared" : "Speeds compared", kStyle, escape_html(comparison_summary(comparison)),
      body);
}

}  // namespace brood
