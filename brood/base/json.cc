#include "brood/base/json.h"

#include <algorithm>
#include <set>
#include <vector>

#include "brood/base/error.h"

namespace brood {

namespace {

// nlohmann counts the bytes read up to and including the one that it did not expect.
[[noreturn]] void fail_at(std::string_view text, size_t bytes_read, const std::string& context,
                          const char* what) {
  const std::string_view before = text.substr(0, bytes_read ? bytes_read - 1 : 0);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column = newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
  fail("{}: line {}, column {} is not JSON: {}", context, line, column, what);
}

// The library's text is "[json.exception...] parse error at line 1, column 2: syntax error while ...": ours
// says where.
const char* after_position(const char* what) {
  const std::string_view text = what;
  const size_t colon = text.find(": ");
  return colon == std::string_view::npos ? what : what + colon + 2;
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& context) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> open;  // the keys seen in each object that is open
  const auto watch = [&](int depth, Event event, nlohmann::json& value) {
    if (depth > kJsonDepth) fail("{}: nested deeper than {} levels; flatten it", context, kJsonDepth);
    if (event == Event::object_start) open.emplace_back();
    if (event == Event::object_end) open.pop_back();
    if (event == Event::key && !open.back().insert(value.get<std::string>()).second)
      fail("{}: the key {} is written twice in one object; remove one", context, shown(value));
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch);
  } catch (const nlohmann::json::parse_error& error) {
    fail_at(text, error.byte, context, after_position(error.what()));
  } catch (const nlohmann::json::exception& error) {  // a number beyond double's range
    fail("{}: cannot be read as JSON: {}", context, error.what());
  }
}

std::string shown(const nlohmann::json& value) {
  constexpr size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest - 3) + "...";
  return text;
}

}  // namespace brood
