// Named configurations.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace brood {

struct Preset {
  const char* name;
  const char* purpose;  // one line for people
  const char* json;
};
const std::vector<Preset>& presets();
const Preset* find_preset(std::string_view name);  // null when there is none

}  // namespace brood
