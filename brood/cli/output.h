// Where the program's words go: results to standard output, everything else to standard error.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace brood::cli {

// The reader of standard output has gone; there is nobody left to write for. Ends the program quietly.
struct ClosedPipe {};

// Writes and does not wait for more. Throws ClosedPipe; Failure when standard output cannot take it (a full
// disk).
void write_out(std::string_view bytes);

// The result of a verb for programs: one line of JSON.
void write_json(const nlohmann::json& result);

// Prose for people, a line on standard error. Never fails.
void say(std::string_view line);

// A number as it stands in results: 6 significant digits are all that is ever measured.
double rounded(double x);

int64_t peak_memory_bytes();  // of this process so far

}  // namespace brood::cli
