#include "brood/base/directories.h"

#include <filesystem>

namespace brood {

void make_directories(FileSystem& files, const std::string& path) {
  const std::filesystem::path whole(path), parent = whole.parent_path();
  if (!parent.empty() && parent != whole && !files.exists(parent.string()))
    make_directories(files, parent.string());
  if (files.exists(path)) return files.make_directory(path);  // refused when it is none
  files.make_directory(path);
  files.sync_directory(parent.empty() ? "." : parent.string());
}

}  // namespace brood
