// What a number on the command line may be. A value that is none of these is refused with a sentence that
// says what is wanted: "must be a whole number from 1 to 1024, but is 0".
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>

namespace brood::cli {

constexpr int64_t kAnyCount = int64_t(1) << 40;  // more steps, bytes or updates than anyone waits for

CLI::Validator whole(int64_t least, int64_t most);
CLI::Validator real(double least, double most);
CLI::Validator above_zero(double most);

}  // namespace brood::cli
