#include "brood/base/notes.h"

#include <charconv>

#include "brood/base/error.h"
#include "brood/base/json.h"

namespace brood {

void Notes::refuse(const std::string& why) const {
  fail("live: {} cannot be read ({}); {}", what_, why, mend_);
}

const nlohmann::json& Notes::at(const char* key) const {
  if (!notes_.is_object()) refuse(fmt::format("they are {}", shown(notes_)));
  const auto found = notes_.find(key);
  if (found == notes_.end()) refuse(fmt::format("they lack \"{}\"", key));
  return *found;
}

const nlohmann::json& Notes::list(const char* key) const {
  const nlohmann::json& value = at(key);
  if (!value.is_array()) refuse(fmt::format("{} is {}, not a list", key, shown(value)));
  return value;
}

int64_t Notes::whole(const nlohmann::json& value, const char* key, int64_t low, int64_t high) const {
  if (!value.is_number_integer() || value < low || value > high)
    refuse(fmt::format("{} is {}, not a whole number from {} to {}", key, shown(value), low, high));
  return value.get<int64_t>();
}

double Notes::cost(const nlohmann::json& value, const char* key) const {
  if (!value.is_number() || !(value.get<double>() >= 0))
    refuse(fmt::format("{} is {}, not a number from 0", key, shown(value)));
  return value.get<double>();
}

std::string Notes::text(const char* key) const {
  const nlohmann::json& value = at(key);
  if (!value.is_string()) refuse(fmt::format("{} is {}, not a text", key, shown(value)));
  return value.get<std::string>();
}

bool Notes::flag(const char* key) const {
  const nlohmann::json& value = at(key);
  if (!value.is_boolean()) refuse(fmt::format("{} is {}, neither true nor false", key, shown(value)));
  return value.get<bool>();
}

uint64_t Notes::name(const char* key) const {
  const std::string digits = text(key);
  uint64_t name = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, name, 16);
  if (error != std::errc() || stop != end) refuse(fmt::format("{} is {}, no name", key, shown(digits)));
  return name;
}

}  // namespace brood
