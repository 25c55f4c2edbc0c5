#include "brood/cli/live_source.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include "brood/base/crc32.h"
#include "brood/base/error.h"
#include "brood/base/progress.h"
#include "brood/cli/input.h"

namespace brood::cli {
namespace {

// Passes over the bytes taken before; false when they are others, or fewer.
bool skip(ByteStream& stream, const StreamSource& before) {
  std::vector<uint8_t> block(size_t(1) << 16);
  uint32_t check = 0;
  for (int64_t left = before.taken; left > 0;) {
    const int64_t n = stream.read(std::span(block).first(size_t(std::min(left, int64_t(block.size())))));
    if (n == 0) return false;
    check = crc32(std::span(block).first(size_t(n)), check);
    left -= n;
  }
  return check == before.check;
}

}  // namespace

std::string source_name(const std::string& in) {
  if (in == "-") return in;
  std::error_code ignored;
  const std::string whole =
      std::filesystem::weakly_canonical(std::filesystem::absolute(in, ignored), ignored).string();
  return ignored ? in : whole;
}

OpenedSource open_source(const std::string& in, const std::optional<StreamSource>& before, bool again) {
  const std::string name = source_name(in);
  const off_t begin = in == "-" ? ::lseek(STDIN_FILENO, 0, SEEK_CUR) : -1;
  OpenedSource fresh{open_sources(std::span(&in, 1)), {.name = name}};
  if (!before || before->name != name) return fresh;
  if (fresh.stream.total() < 0) {  // a pipe: what comes is taken to follow
    if (!before->ended) fresh.source = *before;
    fresh.goes_on = !before->ended;
    return fresh;
  }
  if (!(again && before->ended) && skip(fresh.stream, *before)) {
    fresh.source = *before;
    fresh.goes_on = true;
    return fresh;
  }
  // Another text at standard input is another source, once the one before has been read to its end.
  if (!again && (in != "-" || !before->ended))
    fail(
        "live: {} has changed: its first {} are not those that were read before; --again reads it from its "
        "start",
        in == "-" ? "standard input" : in, bytes_text(double(before->taken)));
  if (in == "-") ::lseek(STDIN_FILENO, begin, SEEK_SET);
  fresh.stream = open_sources(std::span(&in, 1));
  return fresh;
}

}  // namespace brood::cli
