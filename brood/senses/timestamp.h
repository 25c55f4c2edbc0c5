// Times as they stand in tables.
#pragma once

#include <string_view>

namespace brood {

// Seconds since 1970-01-01 00:00 UTC of an ISO 8601 time ("2016-07-01", "2016-07-01 13:05", "2016-07-01T13:05:09.25Z",
// "…+02:00"; no zone: UTC; slashes for dashes), or the number that stands there, in whatever unit it has. False when
// it is neither; then `seconds` is left alone.
bool parse_time(std::string_view text, double& seconds);

// A whole text as a finite number; false when it is none.
bool parse_number(std::string_view text, double& number);

}  // namespace brood
