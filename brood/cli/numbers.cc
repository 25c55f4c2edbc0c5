#include "brood/cli/numbers.h"

#include <fmt/format.h>

#include <charconv>
#include <string>

namespace brood::cli {
namespace {

// The whole text as a number; false when it is none, or not all of it.
template <class T>
bool read(const std::string& text, T& number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end;
}

// An empty string says that all is well.
template <class T, class Allowed>
CLI::Validator number(std::string wanted, Allowed allowed) {
  return CLI::Validator(
      [wanted = std::move(wanted), allowed](std::string& text) {
        T value{};
        return read(text, value) && allowed(value) ? std::string()
                                                   : fmt::format("must be {}, but is {}", wanted, text);
      },
      "");
}

}  // namespace

CLI::Validator whole(int64_t least, int64_t most) {
  return number<int64_t>(fmt::format("a whole number from {} to {}", least, most),
                         [=](int64_t n) { return n >= least && n <= most; });
}

// Not-a-number is neither below nor above anything, so it is asked whether it lies between.
CLI::Validator real(double least, double most) {
  return number<double>(fmt::format("a number from {:g} to {:g}", least, most),
                        [=](double x) { return x >= least && x <= most; });
}

CLI::Validator above_zero(double most) {
  return number<double>(fmt::format("a number above 0, at most {:g}", most),
                        [=](double x) { return x > 0 && x <= most; });
}

}  // namespace brood::cli
