#include "brood/base/exactly_once_file.h"

#include <filesystem>

namespace brood {

ExactlyOnceFile::ExactlyOnceFile(const std::string& path, int64_t bytes, FileSystem& files)
    : path_(path),
      files_(files),
      bytes_(bytes),
      file_(bytes == 0 ? files.create(path) : files.extend(path, bytes)) {}

void ExactlyOnceFile::append(std::string_view text) {
  file_->append(std::as_bytes(std::span(text)));
  bytes_ += int64_t(text.size());
}

void ExactlyOnceFile::sync() {
  const std::lock_guard alone(one_sync_);
  file_->sync();
  if (named_) return;
  const std::string parent = std::filesystem::path(path_).parent_path().string();
  files_.sync_directory(parent.empty() ? "." : parent);
  named_ = true;
}

}  // namespace brood
