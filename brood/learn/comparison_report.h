// A comparison's document (comparison.h) as a table for a terminal and as a page for a browser.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace brood {

// One row a model, the same cells as in the page; the header comes first.
std::vector<std::vector<std::string>> comparison_cells(const nlohmann::json& document);

// The cells in columns, a line each.
std::string comparison_table(const nlohmann::json& document);

// One HTML page that needs nothing but itself: the table, the courses of learning, the speeds and the states.
std::string comparison_page(const nlohmann::json& document);

}  // namespace brood
