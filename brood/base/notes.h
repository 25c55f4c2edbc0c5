// Notes: what a run wrote down of itself as a JSON object, read back by a later one. Anybody may have changed them, so
// nothing in them is believed: what is absent, of another type or out of range is refused with one sentence.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace brood {

class Notes {
 public:
  // Refusals read "live: WHAT cannot be read (why); MEND". The object must outlive this.
  Notes(const nlohmann::json& notes, const char* what, const char* mend)
      : notes_(notes), what_(what), mend_(mend) {}

  bool has(const char* key) const { return notes_.is_object() && notes_.contains(key); }
  const nlohmann::json& at(const char* key) const;
  const nlohmann::json& list(const char* key) const;
  Notes part(const char* key) const { return {at(key), what_, mend_}; }

  int64_t whole(const char* key, int64_t low, int64_t high) const { return whole(at(key), key, low, high); }
  int64_t whole(const nlohmann::json& value, const char* key, int64_t low, int64_t high) const;
  int64_t count(const char* key, int64_t most = kMostCount) const { return whole(key, 0, most); }
  double cost(const char* key) const { return cost(at(key), key); }  // a number from 0
  double cost(const nlohmann::json& value, const char* key) const;
  std::string text(const char* key) const;
  bool flag(const char* key) const;
  uint64_t name(const char* key) const;  // 16 hexadecimal digits

  [[noreturn]] void refuse(const std::string& why) const;

  static constexpr int64_t kMostCount = int64_t(1) << 62;  // half of the range: counting on cannot overflow

 private:
  const nlohmann::json& notes_;
  const char *what_, *mend_;
};

}  // namespace brood
