#include "brood/cli/input.h"

#include <poll.h>
#include <unistd.h>

#include "brood/base/error.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/output.h"

namespace brood::cli {
namespace {

constexpr size_t kBlock = size_t(1) << 16;    // bytes asked for at once
constexpr int kLookAroundMilliseconds = 200;  // a signal may come between the question and the wait

}  // namespace

void require_bytes(const Model& model, const std::string& name) {
  const int64_t known = model.frame().vocab_size;
  if (known < kByteTokens) {
    fail("reading bytes: the model {} knows {} tokens; set its \"vocab_size\" to {} or more", name, known,
         kByteTokens);
  }
}

ByteStream open_sources(std::span<const std::string> sources) {
  ByteStream stream = ByteStream::open(sources);
  const std::vector<std::string>& left_out = stream.unreadable();
  if (left_out.size() == 1)
    say(fmt::format("reading {}: it cannot be read and is left out", left_out[0]));
  else if (!left_out.empty())
    say(fmt::format("reading {}: it cannot be read and is left out, as are {} others", left_out[0],
                    left_out.size() - 1));
  return stream;
}

std::vector<uint8_t> read_all(std::span<const std::string> sources) {
  std::vector<uint8_t> bytes;
  if (sources.empty()) return bytes;
  ByteStream stream = open_sources(sources);
  if (stream.total() > 0) bytes.reserve(size_t(stream.total()) + kBlock);
  for (;;) {
    const size_t filled = bytes.size();
    bytes.resize(filled + kBlock);
    const int64_t n = stream.read(std::span(bytes).subspan(filled));
    bytes.resize(filled + size_t(n));
    if (n == 0) return bytes;
  }
}

bool wait_for(const std::string& source, const std::function<void()>& idle) {
  if (source != "-") return !interrupted();
  pollfd wanted{STDIN_FILENO, POLLIN, 0};
  while (!interrupted()) {
    if (::poll(&wanted, 1, kLookAroundMilliseconds) > 0) return true;
    if (idle) idle();
  }
  return false;
}

}  // namespace brood::cli
