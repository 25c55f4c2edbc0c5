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
  // context begins every message ("config.json", "preset mamba-s"). Throws Error when `object` is not a JSON
  // object.
  explicit Settings(nlohmann::json object, std::string context = "config");
  // Throws Error with line and column (base/json.h).
  static Settings parse(const std::string& text, const std::string& context);

  // Reads return the default when the key is absent; the default itself is not checked against the range.
  int64_t integer(const std::string& key, int64_t default_value, int64_t low, int64_t high);
  double number(const std::string& key, double default_value, double low, double high);
  bool flag(const std::string& key, bool default_value);
  std::string choice(const std::string& key, const std::string& default_value,
                     std::initializer_list<const char*> allowed);
  std::string text(const std::string& key, const std::string& default_value);
  bool has(const std::string& key) const;  // does not count as reading it
  // The value as it is, for what is read in another way, by another Settings for example; then
  // set_effective(key, ...) says what was understood.
  nlohmann::json any(const std::string& key, const nlohmann::json& default_value);
  void set_effective(const std::string& key, nlohmann::json value) { remember(key, std::move(value)); }
  // Refuses the value of a key that any() gave: "config: mixer is 3, but must be ...".
  [[noreturn]] void refuse(const std::string& key, const std::string& wanted) const;

  // The same object, of which nothing has been read: for one of several readers whose defaults may differ.
  // know() then makes the keys that such a reader read known here; what it understood is not taken over.
  Settings unread() const { return Settings(object_, context_); }
  void know(const Settings& reader) { known_.insert(reader.known_.begin(), reader.known_.end()); }

  void finish() const;  // throws Error naming a key that was never read, with the nearest known
  const nlohmann::json& effective() const { return effective_; }
  const std::string& context() const { return context_; }

 private:
  template <class T>
  T remember(const std::string& key, T value) {
    known_.insert(key);
    effective_[key] = value;
    return value;
  }

  nlohmann::json object_;
  nlohmann::json effective_;
  std::set<std::string> known_;
  std::string context_;
};

}  // namespace brood
