#include "brood/senses/timestamp.h"

#include <charconv>
#include <cmath>
#include <cstdint>

namespace brood {
namespace {

// Reads from the front of a text; once something is not as it should be, everything fails.
class Front {
 public:
  explicit Front(std::string_view text) : text_(text) {}

  int digits(size_t count, int least, int most) {
    int value = 0;
    good_ = good_ && text_.size() >= count;
    for (size_t i = 0; good_ && i < count; ++i) {
      good_ = text_[i] >= '0' && text_[i] <= '9';
      value = value * 10 + (text_[i] - '0');
    }
    if (!good_) return 0;
    text_.remove_prefix(count);
    good_ = value >= least && value <= most;
    return value;
  }
  // One of these characters is there, and is taken.
  char take(std::string_view allowed) {
    if (!good_ || text_.empty() || allowed.find(text_[0]) == std::string_view::npos) return 0;
    const char found = text_[0];
    text_.remove_prefix(1);
    return found;
  }
  void need(std::string_view allowed) { good_ = take(allowed) != 0; }
  double fraction() {
    double value = 0, place = 0.1;
    while (!text_.empty() && text_[0] >= '0' && text_[0] <= '9') {
      value += place * (text_[0] - '0');
      place /= 10;
      text_.remove_prefix(1);
    }
    return value;
  }
  bool good() const { return good_; }
  bool at_end() const { return text_.empty(); }

 private:
  std::string_view text_;
  bool good_ = true;
};

// Days since 1970-01-01 in the Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms",
// days_from_civil): years begin in March, so that the leap day is the last of one.
int64_t days_since_1970(int year, int month, int day) {
  const int64_t y = year - (month <= 2);
  const int64_t era = (y >= 0 ? y : y - 399) / 400, year_of_era = y - era * 400;
  const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  const int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + day_of_era - 719468;
}

int days_in(int year, int month) {
  constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return kDays[month - 1] + (month == 2 && leap);
}

double clock(Front& front) {
  double seconds = 3600.0 * front.digits(2, 0, 23);
  front.need(":");
  seconds += 60.0 * front.digits(2, 0, 59);
  if (front.take(":")) {
    seconds += front.digits(2, 0, 60);
    if (front.take(".,")) seconds += front.fraction();
  }
  return seconds;
}

double zone(Front& front) {
  if (front.take("Z")) return 0;
  const char sign = front.take("+-");
  if (!sign) return 0;
  double seconds = 3600.0 * front.digits(2, 0, 23);
  front.take(":");
  if (!front.at_end()) seconds += 60.0 * front.digits(2, 0, 59);
  return sign == '+' ? seconds : -seconds;
}

}  // namespace

bool parse_number(std::string_view text, double& number) {
  if (!text.empty() && text[0] == '+') text.remove_prefix(1);
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value)) return false;
  number = value;
  return true;
}

bool parse_time(std::string_view text, double& seconds) {
  if (parse_number(text, seconds)) return true;
  Front front(text);
  const int year = front.digits(4, 0, 9999);
  const char between = front.take("-/");
  if (!between) return false;
  const int month = front.digits(2, 1, 12);
  front.need({&between, 1});
  const int day = front.digits(2, 1, 31);
  if (!front.good() || day > days_in(year, month)) return false;
  double time = 86400.0 * double(days_since_1970(year, month, day));
  if (!front.at_end()) {
    front.need(" T");
    time += clock(front);
    time -= zone(front);
  }
  if (!front.good() || !front.at_end()) return false;
  seconds = time;
  return true;
}

}  // namespace brood
