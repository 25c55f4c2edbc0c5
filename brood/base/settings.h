// Settings: a JSON object read strictly. Every read names the key, its default and what is allowed; a wrong
// type, a value out of range and a key that nobody read are refused with one sentence. effective() gives back
// what was read, defaults included, which is what a saved config.json holds.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace brood {

class Settings {
 public:
  // context begins every message ("config.json", "preset mamba-s").
  explicit Settings(nlohmann::json object, std::string context = "config");
  static Settings parse(const std::string& text,
                        const std::string& context);  // throws Error with line and column

  int64_t integer(const std::string& key, int64_t default_value, int64_t low, int64_t high);
  double number(const std::string& key, double default_value, double low, double high);
  bool flag(const std::string& key, bool default_value);
  std::string choice(const std::string& key, const std::string& default_value,
                     std::initializer_list<const char*> allowed);
  std::string text(const std::string& key, const std::string& default_value);
  bool has(const std::string& key) const;

  void finish() const;  // throws Error naming a key that was never read, with the nearest known
  const nlohmann::json& effective() const { return effective_; }
  const std::string& context() const { return context_; }

 private:
  nlohmann::json object_, effective_;
  std::string context_;
};

}  // namespace brood
