// JSON read strictly, for text that people write and that strangers send.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace brood {

// One JSON document. Throws Error that begins with `context` and gives line and column of a syntax error;
// refuses a key written twice in one object (which of the two was meant?) and nesting deeper than kJsonDepth
// (no configuration needs it, and a stranger's brackets shall not fill the memory).
constexpr int kJsonDepth = 32;
nlohmann::json parse_json(std::string_view text, const std::string& context);

// A name or value as it may stand in an error message: JSON-quoted, pure ASCII, at most about 60 characters.
std::string shown(const nlohmann::json& value);

}  // namespace brood
