#include "brood/senses/bytes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "brood/base/error.h"
#include "brood/base/file.h"

namespace brood {

namespace {

namespace fs = std::filesystem;

constexpr size_t kProbeBytes = 65536;

class Input {
 public:
  Input() = default;
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  ~Input() { close(); }

  bool is_open() const { return fd_ >= 0; }
  bool try_open(const std::string& path) {
    close();
    fd_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    return is_open();
  }
  void close() {
    if (const int fd = std::exchange(fd_, -1); fd > STDIN_FILENO) ::close(fd);
  }
  // −1 with errno on failure.
  int64_t read(std::span<uint8_t> block) const {
    for (;;) {
      const ssize_t n = ::read(fd_, block.data(), block.size());
      if (n >= 0 || errno != EINTR) return n;
    }
  }
  int64_t size() const {  // −1: not a regular file
    struct stat status;
    return ::fstat(fd_, &status) == 0 && S_ISREG(status.st_mode) ? int64_t(status.st_size) : -1;
  }

 private:
  int fd_ = -1;
};

enum class Content { kText, kBinary, kUnreadable };

// Empty files are text.
Content content_of(const std::string& path) {
  Input file;
  if (!file.try_open(path)) return Content::kUnreadable;
  std::vector<uint8_t> block(kProbeBytes);
  size_t filled = 0;
  while (filled < block.size()) {
    const int64_t n = file.read(std::span(block).subspan(filled));
    if (n < 0) return Content::kUnreadable;
    if (n == 0) break;
    filled += size_t(n);
  }
  return std::memchr(block.data(), 0, filled) == nullptr ? Content::kText : Content::kBinary;
}

bool is_made(const fs::path& directory) {
  const std::string name = directory.filename().string();
  for (const char* made : {".git", ".hg", ".svn", "build"})
    if (name == made) return true;
  if (name.starts_with("build-") || name.starts_with("build_")) return true;
  std::error_code ignored;
  return fs::exists(directory / "CMakeCache.txt", ignored) ||
         fs::exists(directory / "model.safetensors", ignored);
}

// Where a source begins, its size is known from stat: opening it must not wait for a pipe's writer.
struct stat status_of(const std::string& source) {
  struct stat status;
  if (::stat(source.c_str(), &status) != 0) fail_system("reading " + source, errno);
  return status;
}

}  // namespace

std::vector<std::string> text_files(const std::string& directory, std::vector<std::string>* unreadable) {
  std::vector<std::string> files;
  std::error_code error;
  auto it = fs::recursive_directory_iterator(directory, fs::directory_options::skip_permission_denied, error);
  if (error) fail_system("reading the directory " + directory, error.value());
  int64_t others = 0;
  const auto leave_out = [&](const std::string& path) {
    ++others;
    if (unreadable) unreadable->push_back(path);
  };
  while (it != fs::recursive_directory_iterator()) {
    std::error_code ignored;
    if (it->is_symlink(ignored)) {
      it.disable_recursion_pending();
    } else if (it->is_directory(ignored)) {
      if (is_made(it->path()))
        it.disable_recursion_pending();
      else if (::faccessat(AT_FDCWD, it->path().c_str(), R_OK | X_OK, AT_EACCESS) != 0)
        leave_out(it->path().string());
    } else if (it->is_regular_file(ignored)) {
      const std::string path = it->path().string();
      switch (content_of(path)) {
        case Content::kText:
          files.push_back(path);
          break;
        case Content::kBinary:
          ++others;
          break;
        case Content::kUnreadable:
          leave_out(path);
          break;
      }
    }
    it.increment(error);
    if (error) fail_system("reading the directory " + directory, error.value());
  }
  if (files.empty())
    fail("reading {}: there is no text file in it ({} others); name another directory or a file", directory,
         others);
  std::sort(files.begin(), files.end());
  if (unreadable) std::sort(unreadable->begin(), unreadable->end());
  return files;
}

struct ByteStream::Impl {
  struct Part {
    std::string path;
    bool from_directory;  // may have gone since it was listed: then it is passed over
  };
  std::vector<Part> parts;
  size_t next = 0;
  Input input;
  std::string current;
  std::vector<std::string> unreadable;
  int64_t total = 0;

  void add(const std::string& source) {
    if (source == "-") {
      parts.push_back({source, false});
      input.try_open(source);
      add_size(input.size());
      input.close();
      return;
    }
    const struct stat status = status_of(source);
    if (!S_ISDIR(status.st_mode)) {
      if (::access(source.c_str(), R_OK) != 0) fail_system("reading " + source, errno);
      parts.push_back({source, false});
      add_size(S_ISREG(status.st_mode) ? int64_t(status.st_size) : -1);
      return;
    }
    for (const std::string& path : text_files(source, &unreadable)) {
      parts.push_back({path, true});
      std::error_code gone;
      const auto size = fs::file_size(path, gone);
      if (!gone) add_size(int64_t(size));
    }
  }
  void add_size(int64_t size) { total = total < 0 || size < 0 ? -1 : total + size; }

  // False when no part is left.
  bool open_next() {
    while (next < parts.size()) {
      const Part& part = parts[next++];
      if (input.try_open(part.path)) {
        current = part.path == "-" ? "standard input" : part.path;
        return true;
      }
      if (!part.from_directory) fail_system("reading " + part.path, errno);
    }
    return false;
  }
};

ByteStream::ByteStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ByteStream::ByteStream(ByteStream&&) noexcept = default;
ByteStream& ByteStream::operator=(ByteStream&&) noexcept = default;
ByteStream::~ByteStream() = default;

ByteStream ByteStream::open(const std::string& source) { return open(std::span(&source, 1)); }

ByteStream ByteStream::open(std::span<const std::string> sources) {
  auto impl = std::make_unique<Impl>();
  for (const std::string& source : sources) impl->add(source);
  return ByteStream(std::move(impl));
}

int64_t ByteStream::read(std::span<uint8_t> block) {
  BROOD_ASSERT(!block.empty());
  for (;;) {
    if (!impl_->input.is_open() && !impl_->open_next()) return 0;
    const int64_t n = impl_->input.read(block);
    if (n > 0) return n;
    if (n < 0) fail_system("reading " + impl_->current, errno);
    impl_->input.close();
  }
}

int64_t ByteStream::total() const { return impl_->total; }
const std::string& ByteStream::current() const { return impl_->current; }
const std::vector<std::string>& ByteStream::unreadable() const { return impl_->unreadable; }

}  // namespace brood
