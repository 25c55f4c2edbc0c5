#include "brood/cli/output.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>

#include "brood/base/error.h"

namespace brood::cli {

void write_out(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EPIPE) throw ClosedPipe{};
    if (written < 0) give_up("writing to standard output: {}", std::strerror(errno));
    bytes.remove_prefix(size_t(written));
  }
}

void write_json(const nlohmann::json& result) {
  // Text that is not UTF-8 (a model may write anything) is shown with replacement marks.
  write_out(result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void say(std::string_view line) {
  const std::string text = fmt::format("{}\n", line);
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

double rounded(double x) {
  return std::isfinite(x) ? std::strtod(fmt::format("{:.6g}", x).c_str(), nullptr) : x;
}

int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t(usage.ru_maxrss) * 1024;
}

}  // namespace brood::cli
