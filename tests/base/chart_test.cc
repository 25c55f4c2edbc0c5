#include "brood/base/chart.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace brood {
namespace {

TEST(ShortNumber, SaysThreeFigures) {
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(12.345), "12.3");
  EXPECT_EQ(short_number(999.4), "999");
  EXPECT_EQ(short_number(999.6), "1k");
  EXPECT_EQ(short_number(1064), "1.06k");
  EXPECT_EQ(short_number(-52345), "-52.3k");
  EXPECT_EQ(short_number(1.2e6), "1.2M");
  EXPECT_EQ(short_number(std::nan("")), "–");
}

TEST(Chart, PutsPointsWhereTheyBelong) {
  Chart chart{.title = "a & b", .x_label = "x", .y_label = "y"};
  chart.lines = {{.name = "<one>", .colour = 1, .points = {{0, 0}, {5, 50}, {10, 100}}, .marked = true}};
  const std::string svg = chart_svg(chart);
  // From corner to corner of the field, through its middle.
  EXPECT_NE(svg.find("points=\"62.0,294.0 304.0,164.0 546.0,34.0\""), std::string::npos) << svg;
  EXPECT_NE(svg.find("a &amp; b"), std::string::npos);
  EXPECT_NE(svg.find("&lt;one&gt;"), std::string::npos);
  EXPECT_NE(svg.find("var(--series-1)"), std::string::npos);
}

TEST(Chart, LeavesOutWhatCannotBeDrawn) {
  Chart chart{.title = "t", .x_label = "x", .y_label = "y", .x_log = true, .y_log = true};
  EXPECT_NE(chart_svg(chart).find("nothing was measured"), std::string::npos);
  chart.lines = {{.name = "a", .points = {{1, 1}, {0, 5}, {10, NAN}, {100, 100}}}};
  EXPECT_NE(chart_svg(chart).find("points=\"62.0,294.0 546.0,34.0\""), std::string::npos) << chart_svg(chart);
}

TEST(Chart, DrawsASinglePoint) {
  Chart chart{.title = "t", .x_label = "x", .y_label = "y"};
  chart.lines = {{.name = "a", .points = {{3, 3}}, .marked = true}};
  const std::string svg = chart_svg(chart);
  EXPECT_NE(svg.find("<circle"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace brood
