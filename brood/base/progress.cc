#include "brood/base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace brood {
namespace {

constexpr std::chrono::milliseconds kTerminalPause{200};
constexpr std::chrono::milliseconds kFirstPlainPause{1000};
constexpr std::chrono::milliseconds kLongestPlainPause{60000};

size_t terminal_width(int descriptor) {
  winsize size{};
  return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

}  // namespace

ProgressLine::ProgressLine(int descriptor)
    : descriptor_(descriptor),
      terminal_(isatty(descriptor) == 1),
      pause_(terminal_ ? kTerminalPause : kFirstPlainPause) {
  next_ = Clock::now() + pause_;
}

ProgressLine::~ProgressLine() { finish(); }

bool ProgressLine::due() const { return Clock::now() >= next_; }

void ProgressLine::show(std::string_view line) {
  if (terminal_) {
    // A line longer than the terminal would wrap and leave its head behind at every rewrite.
    write(fmt::format("\r\x1b[K{}", line.substr(0, terminal_width(descriptor_) - 1)));
    open_ = true;
  } else {
    write(fmt::format("{}\n", line));
    pause_ = std::min(pause_ * 2, kLongestPlainPause);
  }
  next_ = Clock::now() + pause_;
}

void ProgressLine::note(std::string_view line) {
  write(fmt::format("{}{}\n", open_ ? "\r\x1b[K" : "", line));
  open_ = false;
}

void ProgressLine::finish() {
  if (open_) write("\n");
  open_ = false;
}

void ProgressLine::write(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor_, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(size_t(written));
  }
}

std::string duration_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  const auto whole = int64_t(std::lround(seconds));
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string bytes_text(double bytes) {
  const char* const units[] = {"B", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  for (; bytes >= 999.5 && unit + 1 < std::size(units); ++unit) bytes /= 1000;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.3g} {}", bytes, units[unit]);
}

}  // namespace brood
