// Kinds of failure, kept apart.
//
//  Error          a user's mistake (file, shape, configuration, network): an exception whose text is one
//                 clear sentence that names the thing and the mend. The program shows it and exits with code 2.
//  Failure        an Error that no other input would have spared: a full disk, a run that diverged. The same
//                 sentence, exit code 1.
//  BROOD_ASSERT   a programmer's mistake: prints where and aborts. Never reachable by user input.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace brood {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& sentence) : std::runtime_error(sentence) {}
};

class Failure : public Error {
 public:
  using Error::Error;
};

// Throws Error(fmt::format(...)). Begin with what was being done:
// "mamba: d_model 770 is not a multiple of 8".
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// The same with Failure.
template <class... Args>
[[noreturn]] void give_up(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(fmt::format(format, std::forward<Args>(args)...));
}

// Throws what `error` is, Error or Failure, with another sentence.
[[noreturn]] void fail_as(const Error& error, const std::string& sentence);

namespace internal {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);
}

}  // namespace brood

#define BROOD_ASSERT(condition) \
  ((condition) ? void(0) : ::brood::internal::assertion_failed(#condition, __FILE__, __LINE__))
