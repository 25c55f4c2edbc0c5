// ProgressLine: tells a person how far a long run is, calmly. On a terminal it rewrites one line a few times
// a second; anywhere else (a log, a pipe) it writes a plain line now and then: after 1, 2, 4, ... seconds,
// later once a minute. It writes to a descriptor handed to it and never complains: where nobody reads,
// nothing is shown.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace brood {

class ProgressLine {
 public:
  explicit ProgressLine(int descriptor);
  ~ProgressLine();  // leaves the last line standing
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Whether it is time to show something; ask before making the text.
  bool due() const;
  void show(std::string_view line);
  // A line that stays, between the moving ones: a validation, a save.
  void note(std::string_view line);
  // Ends the moving line, so that others can write.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void write(std::string_view text) const;

  int descriptor_;
  bool terminal_;
  bool open_ = false;  // a moving line stands unfinished
  Clock::time_point next_;
  std::chrono::milliseconds pause_;
};

std::string duration_text(
    double seconds);  // "0.4 s", "41 s", "3 min 05 s", "2 h 07 min"; "?" when it is not known (negative)
std::string bytes_text(double bytes);  // "512 B", "1.09 MB": powers of 1000

}  // namespace brood
