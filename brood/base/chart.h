// Line charts as SVG: text that stands in a page by itself and is readable on light and dark ground. The page
// gives the colours: lines use the CSS variables --series-0, --series-1, ..., everything else its text colour.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace brood {

struct ChartLine {
  std::string name;
  int colour = 0;  // which --series-N; the same thing has the same colour in every chart of a page
  std::vector<std::pair<double, double>> points = {};  // points that are not finite are left out
  bool marked = false;                                 // a dot at every point, for few of them
};

struct Chart {
  std::string title, x_label, y_label;
  bool x_log = false, y_log = false;  // logarithmic axes: numbers that are not above 0 are left out
  std::vector<ChartLine> lines = {};
};

constexpr int kChartColours = 10;  // --series-0 to --series-9; later lines begin anew, dashed

// An <svg> element; it says so where there is nothing to draw. Names may hold anything.
std::string chart_svg(const Chart& chart);

std::string escape_html(const std::string& text);

// A number in three figures for people: "0", "873", "12.4", "1.06k", "52k", "1.2M"; "–" when it is
// not finite.
std::string short_number(double x);

}  // namespace brood
