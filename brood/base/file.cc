#include "brood/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "brood/base/error.h"

namespace brood {

namespace {

const char* mend(int error_number) {
  switch (error_number) {
    case ENOENT:
      return "check the spelling of the path";
    case EACCES:
    case EPERM:
      return "check the permissions of the file and its directory";
    case EISDIR:
      return "name a file in it";
    case ENOTDIR:
      return "a part of the path before the last is a file";
    case ENOSPC:
    case EDQUOT:
      return "free some space or choose another place";
    case EROFS:
      return "choose a place that can be written";
    case EMFILE:
    case ENFILE:
      return "raise the limit of open files (ulimit -n)";
    default:
      return "check the path and the disk";
  }
}

// No fault of the path: the machine has no more of something, or what it has is broken.
bool is_failure(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EIO:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return true;
    default:
      return false;
  }
}

class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail_system("reading " + path, errno);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(fd_); }
  int get() const { return fd_; }

 private:
  int fd_;
};

struct stat status_of(const Descriptor& file, const std::string& path) {
  struct stat status;
  if (::fstat(file.get(), &status) != 0) fail_system("reading " + path, errno);
  if (S_ISDIR(status.st_mode)) fail_system("reading " + path, EISDIR);
  return status;
}

}  // namespace

void fail_system(const std::string& doing, int error_number) {
  const std::string reason = std::generic_category().message(error_number);
  if (is_failure(error_number)) give_up("{}: {}; {}", doing, reason, mend(error_number));
  fail("{}: {}; {}", doing, reason, mend(error_number));
}

std::string read_file(const std::string& path, int64_t limit) {
  const Descriptor file(path);
  status_of(file, path);
  std::string text;
  char block[16384];
  for (;;) {
    const ssize_t n = ::read(file.get(), block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_system("reading " + path, errno);
    if (n == 0) return text;
    text.append(block, size_t(n));
    if (int64_t(text.size()) > limit)
      fail("reading {}: it is longer than {} bytes; this is not the kind of file that was expected", path,
           limit);
  }
}

MappedFile MappedFile::open(const std::string& path) {
  const Descriptor file(path);
  const struct stat status = status_of(file, path);
  if (!S_ISREG(status.st_mode)) fail("reading {}: it is not a regular file; copy it into one first", path);
  MappedFile mapped;
  const auto size = size_t(status.st_size);
  if (size == 0) return mapped;  // mmap refuses length 0
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (memory == MAP_FAILED) fail_system("reading " + path, errno);
  mapped.owner_ = std::shared_ptr<const void>(memory, [size](void* p) { ::munmap(p, size); });
  mapped.bytes_ = {static_cast<const std::byte*>(memory), size};
  return mapped;
}

void require_disk(const std::string& path, double bytes, const std::string& what, const std::string& mend) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  struct statvfs disk {};
  if (::statvfs(folder.empty() ? "." : folder.c_str(), &disk) != 0) return;  // writing there will say why
  const double room = double(disk.f_bavail) * double(disk.f_frsize);
  if (bytes > room)
    fail("{} need {:.1f} GB and {} has room for {:.1f} GB; {}", what, bytes / 1e9,
         folder.empty() ? "this folder's disk" : "the disk of " + folder.string(), room / 1e9, mend);
}

}  // namespace brood
