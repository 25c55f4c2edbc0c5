// Reading files. Writing is base/file_system.h.
//
// All throw Error: "reading x.txt: No such file or directory; ..." with what can be done about it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace brood {

// "doing: reason; mend" for the errno of a failed system call, e.g. doing = "reading x.txt". Throws Failure where
// another path would not have helped.
[[noreturn]] void fail_system(const std::string& doing, int error_number);

// The whole file; refused when it is longer than `limit` bytes (a configuration of a gigabyte is some other
// file).
std::string read_file(const std::string& path, int64_t limit);

// A file as read-only memory; pages come from disk when touched. Copies share the map, the last one unmaps.
// The bytes are those of the file that had this name when it was opened, also when another is renamed over it
// later. Another program that cuts the file short while it is mapped kills the reader (SIGBUS): read what
// matters soon.
class MappedFile {
 public:
  static MappedFile open(const std::string& path);
  std::span<const std::byte> bytes() const { return bytes_; }
  std::shared_ptr<const void> owner() const { return owner_; }  // keeps bytes() valid

 private:
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
};

// Throws Error when the disk that `path` lies on has no room for so many bytes: to be known before it is full.
// `what` begins the sentence, `mend` ends it.
void require_disk(const std::string& path, double bytes, const std::string& what, const std::string& mend);

}  // namespace brood
