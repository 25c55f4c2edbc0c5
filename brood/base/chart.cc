#include "brood/base/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace brood {
namespace {

// In the SVG's own units; the page scales it.
constexpr double kWidth = 560, kHeight = 340;
constexpr double kLeft = 62, kRight = 14, kTop = 34, kBottom = 46;

// One axis: where a number stands between 0 and 1, and which numbers are marked.
class Axis {
 public:
  explicit Axis(bool logarithmic) : log_(logarithmic) {}
  bool takes(double x) const { return std::isfinite(x) && (!log_ || x > 0); }
  void see(double x) {
    low_ = std::min(low_, scaled(x));
    high_ = std::max(high_, scaled(x));
  }
  bool empty() const { return low_ > high_; }
  // Whole decades or round numbers at both ends.
  void finish() {
    if (low_ == high_) low_ -= 0.5, high_ += 0.5;
    step_ = log_ ? std::max(1.0, std::ceil((high_ - low_) / 6)) : round_step((high_ - low_) / 5);
    low_ = std::floor(low_ / step_ + 1e-9) * step_;
    high_ = std::ceil(high_ / step_ - 1e-9) * step_;
  }
  double place(double x) const { return (scaled(x) - low_) / (high_ - low_); }
  std::vector<double> marks() const {
    std::vector<double> all;
    for (int i = 0; low_ + i * step_ <= high_ + step_ * 1e-6; ++i) {
      const double at = low_ + i * step_;
      all.push_back(log_ ? std::pow(10, at) : std::abs(at) < step_ * 1e-6 ? 0 : at);
    }
    return all;
  }

 private:
  double scaled(double x) const { return log_ ? std::log10(x) : x; }
  static double round_step(double least) {
    const double decade = std::pow(10, std::floor(std::log10(least)));
    for (const double factor : {1.0, 2.0, 5.0})
      if (factor * decade >= least * (1 - 1e-9)) return factor * decade;
    return 10 * decade;
  }

  bool log_;
  double low_ = std::numeric_limits<double>::infinity(), high_ = -low_, step_ = 1;
};

class Drawing {
 public:
  explicit Drawing(const Chart& chart) : chart_(chart), x_(chart.x_log), y_(chart.y_log) {
    for (const ChartLine& line : chart.lines) {
      for (const auto& [x, y] : line.points) {
        if (!x_.takes(x) || !y_.takes(y)) continue;
        x_.see(x);
        y_.see(y);
      }
    }
  }

  std::string svg() {
    std::string out = fmt::format(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n"
        "<text class=\"title\" x=\"{}\" y=\"18\">{}</text>\n",
        kWidth, kHeight, escape_html(chart_.title), kLeft, escape_html(chart_.title));
    if (x_.empty()) {
      out += fmt::format("<text class=\"mark\" x=\"{}\" y=\"{}\">nothing was measured</text>\n", kLeft,
                         kHeight / 2);
    } else {
      x_.finish();
      y_.finish();
      draw_axes(out);
      for (const ChartLine& line : chart_.lines) draw_line(out, line);
    }
    return out + "</svg>\n";
  }

 private:
  double left_of(double x) const { return kLeft + x_.place(x) * (kWidth - kLeft - kRight); }
  double top_of(double y) const { return kHeight - kBottom - y_.place(y) * (kHeight - kTop - kBottom); }

  void draw_axes(std::string& out) const {
    for (const double x : x_.marks()) {
      out += fmt::format(
          "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/>"
          "<text class=\"mark\" x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
          left_of(x), kTop, kHeight - kBottom, kHeight - kBottom + 16, short_number(x));
    }
    for (const double y : y_.marks()) {
      out += fmt::format(
          "<line class=\"grid\" y1=\"{0:.1f}\" y2=\"{0:.1f}\" x1=\"{1}\" x2=\"{2}\"/>"
          "<text class=\"mark\" x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
          top_of(y), kLeft, kWidth - kRight, kLeft - 6, top_of(y) + 4, short_number(y));
    }
    const double middle = (kTop + kHeight - kBottom) / 2;
    out += fmt::format(
        "<text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n"
        "<text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"middle\" transform=\"rotate(-90 {} {})\">{}"
        "</text>\n",
        (kLeft + kWidth - kRight) / 2, kHeight - 8, escape_html(chart_.x_label), 14, middle, 14, middle,
        escape_html(chart_.y_label));
  }

  void draw_line(std::string& out, const ChartLine& line) const {
    const std::string colour = fmt::format("var(--series-{})", line.colour % kChartColours);
    std::string points, dots;
    for (const auto& [x, y] : line.points) {
      if (!x_.takes(x) || !y_.takes(y)) continue;
      points += fmt::format("{}{:.1f},{:.1f}", points.empty() ? "" : " ", left_of(x), top_of(y));
      if (line.marked) {
        dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>", left_of(x),
                            top_of(y), colour);
      }
    }
    if (points.empty()) return;
    out += fmt::format(
        "<g><title>{}</title><polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{} "
        "points=\"{}\"/>{}</g>\n",
        escape_html(line.name), colour, line.colour >= kChartColours ? " stroke-dasharray=\"6 4\"" : "",
        points, dots);
  }

  const Chart& chart_;
  Axis x_, y_;
};

}  // namespace

std::string chart_svg(const Chart& chart) { return Drawing(chart).svg(); }

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string short_number(double x) {
  if (!std::isfinite(x)) return "–";
  if (x < 0) return fmt::format("-{}", short_number(-x));
  if (x == 0) return "0";
  if (x < 0.001) return fmt::format("{:.0e}", x);
  constexpr const char* kUnits[] = {"", "k", "M", "G", "T", "P"};
  size_t unit = 0;
  // 999.5 would be shown as 1000.
  while (x >= 999.5 && unit + 1 < std::size(kUnits)) x /= 1000, ++unit;
  return fmt::format("{:.3g}{}", x, kUnits[unit]);
}

}  // namespace brood
