#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "brood/base/chart.h"
#include "brood/base/page.h"
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
  return html_page(trained ? "Models compared" : "Speeds compared", comparison_summary(comparison), body);
}

}  // namespace brood
