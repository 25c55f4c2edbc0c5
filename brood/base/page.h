// A page that stands by itself: one HTML file, readable on light and dark ground, that fetches nothing.
#pragma once

#include <string>

namespace brood {

// title and summary: text; body: HTML. The style gives the colours of charts (base/chart.h) and knows the
// classes charts (a grid of them), scroll (around a wide table), words (tables of sentences) and swatch.
std::string html_page(const std::string& title, const std::string& summary, const std::string& body);

}  // namespace brood
