// Comma-separated values (RFC 4180).
#pragma once

#include <string>
#include <string_view>

namespace brood {

// Adds a field to the end of `text`, quoted where it must be.
void add_field(std::string& text, std::string_view field);

}  // namespace brood
