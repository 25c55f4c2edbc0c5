// An output file of a computation that is saved now and then and goes on from its last save after a kill: every byte
// stands in it once, as if nothing had happened.
//
//   every save   notes bytes() in what it saves, and calls sync() before the save counts
//   after a kill the file is opened at the bytes noted; what is beyond them is cut off and comes again, when the
//                computation does again what it did after that save
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "brood/base/file_system.h"

namespace brood {

// append() and bytes() belong to one thread, sync() to any. Throws Error.
class ExactlyOnceFile {
 public:
  // Goes on after the first `bytes` bytes. 0: from nothing; an old file of that name is emptied. Throws Error when the
  // file is shorter: others have changed it.
  ExactlyOnceFile(const std::string& path, int64_t bytes, FileSystem& files = FileSystem::real());

  void append(std::string_view text);
  int64_t bytes() const { return bytes_; }
  void sync();  // what was appended before is on the disk when it returns

 private:
  const std::string path_;
  FileSystem& files_;
  int64_t bytes_;
  std::unique_ptr<WritableFile> file_;
  std::mutex one_sync_;
  bool named_ = false;  // the folder knows the name
};

}  // namespace brood
