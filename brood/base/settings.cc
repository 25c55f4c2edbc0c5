#include "brood/base/settings.h"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <vector>

#include "brood/base/error.h"
#include "brood/base/json.h"

namespace brood {

namespace {

// Levenshtein's distance: single-character insertions, deletions and replacements.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t(0));
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

// A key much longer than any of ours cannot be a misspelling; not comparing it keeps a hostile one from
// costing time.
constexpr size_t kLongestKey = 100;

std::string advice(const std::string& unknown, const std::set<std::string>& known) {
  std::string nearest, all;
  size_t distance = unknown.size();
  for (const std::string& key : known) {
    all += (all.empty() ? "" : ", ") + key;
    if (unknown.size() > kLongestKey) continue;
    const size_t d = edit_distance(unknown, key);
    if (d < distance) nearest = key, distance = d;
  }
  // Sharing less than half of its letters is chance, not a slip of the fingers.
  if (!nearest.empty() && 2 * distance <= std::max(unknown.size(), nearest.size()))
    return fmt::format("did you mean \"{}\"?", nearest);
  return all.empty() ? "no keys are known here" : "known keys are " + all;
}

}  // namespace

Settings::Settings(nlohmann::json object, std::string context)
    : object_(std::move(object)), effective_(nlohmann::json::object()), context_(std::move(context)) {
  if (!object_.is_object())
    fail("{}: must be a JSON object like {{\"architecture\": \"mamba\"}}, but is {}", context_,
         shown(object_));
}

Settings Settings::parse(const std::string& text, const std::string& context) {
  return Settings(parse_json(text, context), context);
}

void Settings::refuse(const std::string& key, const std::string& wanted) const {
  fail("{}: {} is {}, but must be {}", context_, key, shown(object_.at(key)), wanted);
}

int64_t Settings::integer(const std::string& key, int64_t default_value, int64_t low, int64_t high) {
  const auto found = object_.find(key);
  if (found == object_.end()) return remember(key, default_value);
  const auto refuse_it = [&] { refuse(key, fmt::format("a whole number from {} to {}", low, high)); };
  if (!found->is_number_integer()) refuse_it();
  // Above int64 the library keeps an unsigned number, which a plain get would wrap.
  if (found->is_number_unsigned() && found->get<uint64_t>() > uint64_t(INT64_MAX)) refuse_it();
  const auto value = found->get<int64_t>();
  if (value < low || value > high) refuse_it();
  return remember(key, value);
}

double Settings::number(const std::string& key, double default_value, double low, double high) {
  const auto found = object_.find(key);
  if (found == object_.end()) return remember(key, default_value);
  const auto refuse_it = [&] { refuse(key, fmt::format("a number from {} to {}", low, high)); };
  if (!found->is_number()) refuse_it();
  const auto value = found->get<double>();
  if (!(value >= low && value <= high)) refuse_it();  // so written that NaN is refused
  return remember(key, value);
}

bool Settings::flag(const std::string& key, bool default_value) {
  const auto found = object_.find(key);
  if (found == object_.end()) return remember(key, default_value);
  if (!found->is_boolean()) refuse(key, "true or false");
  return remember(key, found->get<bool>());
}

std::string Settings::choice(const std::string& key, const std::string& default_value,
                             std::initializer_list<const char*> allowed) {
  const auto found = object_.find(key);
  if (found == object_.end()) return remember(key, default_value);
  std::string list;
  for (const char* one : allowed) {
    if (found->is_string() && found->get_ref<const std::string&>() == one)
      return remember(key, std::string(one));
    list += fmt::format("{}\"{}\"", list.empty() ? "" : ", ", one);
  }
  refuse(key, (allowed.size() > 1 ? "one of " : "") + list);
}

std::string Settings::text(const std::string& key, const std::string& default_value) {
  const auto found = object_.find(key);
  if (found == object_.end()) return remember(key, default_value);
  if (!found->is_string()) refuse(key, "a text in quotes");
  return remember(key, found->get<std::string>());
}

nlohmann::json Settings::any(const std::string& key, const nlohmann::json& default_value) {
  const auto found = object_.find(key);
  return remember(key, found == object_.end() ? default_value : *found);
}

bool Settings::has(const std::string& key) const { return object_.contains(key); }

void Settings::finish() const {
  for (const auto& item : object_.items())
    if (!known_.contains(item.key()))
      fail("{}: unknown key {}; {}", context_, shown(item.key()), advice(item.key(), known_));
}

}  // namespace brood
