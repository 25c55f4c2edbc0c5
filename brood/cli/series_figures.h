// What a series came to, in words and for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "brood/learn/series_file.h"

namespace brood::cli {

struct SeriesFigures {
  std::string sentence;
  nlohmann::json json;
};

SeriesFigures series_figures(const KeptSeries& kept);  // kept.stream: there

std::string counted(int64_t count, const char* thing);  // "1 row", "2 rows"

}  // namespace brood::cli
