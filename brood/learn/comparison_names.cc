#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "brood/learn/comparison.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

// The parts of a path from the last on: for "../a/m.json" seen from /home, m, a, home.
std::vector<std::string> parts_backward(const std::string& source) {
  std::error_code unknown;
  fs::path path = fs::absolute(source, unknown).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "a/" is a
  if (path.extension() == ".json") path.replace_extension();
  std::vector<std::string> parts;
  for (const fs::path& part : path.relative_path()) parts.push_back(part.string());
  std::reverse(parts.begin(), parts.end());
  if (parts.empty()) parts.push_back("model");  // the root of all folders
  return parts;
}

// The last `count` parts of a path, as far as it has so many.
std::string joined(const std::vector<std::string>& parts, size_t count) {
  std::string name;
  for (size_t i = std::min(count, parts.size()); i-- > 0;) name += (name.empty() ? "" : "-") + parts[i];
  return name;
}

// How many share each name.
std::map<std::string, int> sharers(const std::vector<std::string>& names) {
  std::map<std::string, int> count;
  for (const std::string& name : names) ++count[name];
  return count;
}

}  // namespace

std::vector<std::string> comparison_names(std::span<const std::string> sources) {
  std::vector<std::vector<std::string>> parts;
  std::vector<std::string> names;
  size_t longest = 0;
  for (const std::string& source : sources) {
    parts.push_back(parts_backward(source));
    names.push_back(joined(parts.back(), 1));
    longest = std::max(longest, parts.back().size());
  }
  for (size_t depth = 2; depth <= longest; ++depth) {
    const auto count = sharers(names);
    for (size_t i = 0; i < names.size(); ++i) {
      const bool told_apart = std::none_of(parts.begin(), parts.end(), [&](const auto& other) {
        return other != parts[i] && joined(other, depth - 1) == joined(parts[i], depth - 1);
      });
      if (count.at(names[i]) > 1 && !told_apart) names[i] = joined(parts[i], depth);
    }
  }
  // What is left alike is the same thing named twice.
  std::set<std::string> taken{"comparison.json"};
  const auto count = sharers(names);
  for (const auto& [name, uses] : count)
    if (uses == 1) taken.insert(name);
  for (std::string& name : names) {
    if (count.at(name) == 1 && name != "comparison.json") continue;
    const std::string plain = name;
    for (int n = 2; !taken.insert(name).second; ++n) name = fmt::format("{}-{}", plain, n);
  }
  return names;
}

}  // namespace brood
