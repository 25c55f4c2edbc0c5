#include "brood/base/error.h"

#include <cstdio>
#include <cstdlib>

namespace brood {

void fail_as(const Error& error, const std::string& sentence) {
  if (dynamic_cast<const Failure*>(&error)) throw Failure(sentence);
  throw Error(sentence);
}

namespace internal {

void assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace internal
}  // namespace brood
