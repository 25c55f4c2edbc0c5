#include "brood/base/file_system.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include "brood/base/error.h"
#include "brood/base/file.h"

namespace brood {

namespace {

class RealFile : public WritableFile {
 public:
  RealFile(const std::string& path, int flags) : path_(path) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666);
    if (fd_ < 0) fail_system("writing " + path, errno);
  }
  RealFile(const RealFile&) = delete;
  RealFile& operator=(const RealFile&) = delete;
  ~RealFile() override {
    if (fd_ >= 0) ::close(fd_);
  }

  void cut(int64_t bytes) const {
    struct stat status;
    if (::fstat(fd_, &status) != 0) fail_system("reading " + path_, errno);
    if (status.st_size < bytes)
      fail("writing {}: it has {} bytes, but {} were written to it; it was changed by others", path_,
           status.st_size, bytes);
    if (::ftruncate(fd_, bytes) != 0) fail_system("writing " + path_, errno);
  }
  void append(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_system("writing " + path_, errno);
      bytes = bytes.subspan(size_t(n));
    }
  }
  void sync() override {
    if (::fsync(fd_) != 0) fail_system("writing " + path_, errno);
  }
  void close() override {
    const int fd = std::exchange(fd_, -1);
    if (::close(fd) != 0 && errno != EINTR) fail_system("writing " + path_, errno);
  }

 private:
  std::string path_;
  int fd_ = -1;
};

// A directory held open: to sync it, or to be locked.
class Directory : public FileLock {
 public:
  explicit Directory(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ < 0) fail_system("opening the directory " + path, errno);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() override { ::close(fd_); }
  int get() const { return fd_; }
  bool still_named(const std::string& path) const {
    struct stat held, named;
    return ::fstat(fd_, &held) == 0 && ::stat(path.c_str(), &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
  }

 private:
  int fd_;
};

class RealFileSystem : public FileSystem {
 public:
  std::unique_ptr<WritableFile> create(const std::string& path) override {
    return std::make_unique<RealFile>(path, O_CREAT | O_TRUNC);
  }
  std::unique_ptr<WritableFile> extend(const std::string& path, int64_t bytes) override {
    auto file = std::make_unique<RealFile>(path, O_APPEND);
    file->cut(bytes);
    return file;
  }
  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail_system("renaming " + from + " to " + to, errno);
  }
  void remove(const std::string& path) override {
    if (std::remove(path.c_str()) != 0 && errno != ENOENT) fail_system("removing " + path, errno);
  }
  void make_directory(const std::string& path) override {
    if (::mkdir(path.c_str(), 0777) == 0) return;
    const int reason = errno;
    if (reason != EEXIST || !std::filesystem::is_directory(path))
      fail_system("making the directory " + path, reason);
  }
  void sync_directory(const std::string& path) override {
    const Directory directory(path);
    // Some file systems cannot sync a directory and say EINVAL; their names are as safe as they can be.
    if (::fsync(directory.get()) != 0 && errno != EINVAL) fail_system("writing to " + path, errno);
  }
  bool link(const std::string& from, const std::string& to) override {
    if (::link(from.c_str(), to.c_str()) == 0) return true;
    if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS || errno == EMLINK) return false;
    fail_system("linking " + from + " to " + to, errno);
  }
  std::unique_ptr<FileLock> lock(const std::string& path, bool exclusive, double wait_seconds) override {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(wait_seconds);
    auto directory = std::make_unique<Directory>(path);
    for (;;) {
      if (::flock(directory->get(), (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) {
        if (directory->still_named(path)) return directory;
        directory =
            std::make_unique<Directory>(path);  // renamed before the lock was ours: take its successor
      } else if (errno != EWOULDBLOCK && errno != EINTR) {
        return directory;  // no locks here
      } else if (std::chrono::steady_clock::now() >= end) {
        return nullptr;
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  }
  bool exists(const std::string& path) override {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
  }
  std::string contents(const std::string& path, int64_t most) override {
    std::ifstream file(path, std::ios::binary);
    std::error_code ignored;
    const auto size = std::filesystem::file_size(path, ignored);
    std::string bytes(ignored ? 0 : size_t(std::min(uint64_t(size), uint64_t(most))), '\0');
    if (!file || !file.read(bytes.data(), std::streamsize(bytes.size())))
      fail_system("reading " + path, errno ? errno : EIO);
    return bytes;
  }
  std::vector<std::string> names(const std::string& directory) override {
    std::vector<std::string> names;
    std::error_code error;
    for (auto it = std::filesystem::directory_iterator(directory, error);
         !error && it != std::filesystem::directory_iterator(); it.increment(error))
      names.push_back(it->path().filename().string());
    if (error) fail_system("reading the directory " + directory, error.value());
    std::sort(names.begin(), names.end());
    return names;
  }
};

// What a file is called until it is whole.
std::string aside_of(const std::string& path) { return path + ".writing"; }

}  // namespace

FileSystem& FileSystem::real() {
  static RealFileSystem files;
  return files;
}

void write_durably(FileSystem& files, const std::string& path, std::span<const std::byte> bytes) {
  write_durably(files, path, [&](const std::string& aside) {
    const auto file = files.create(aside);
    file->append(bytes);
    file->sync();
    file->close();
  });
}

void write_durably(FileSystem& files, const std::string& path,
                   const std::function<void(const std::string& aside)>& write) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  const std::string aside = aside_of(path);
  try {
    write(aside);
    files.rename(aside, path);
  } catch (const Error&) {
    try {
      files.remove(aside);
    } catch (const Error&) {  // the first reason is the one to tell
    }
    throw;
  }
  files.sync_directory(parent.empty() ? "." : parent);
}

void require_writable(const std::string& path) {
  std::error_code absent;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder, absent))
    fail("writing {}: there is no folder {}; make it, or choose another", path, folder.string());
  if (std::filesystem::exists(path, absent) && !std::filesystem::is_regular_file(path, absent))
    fail("writing {}: it is {}; name a file", path,
         std::filesystem::is_directory(path, absent) ? "a folder" : "a device or a pipe");
  FileSystem& files = FileSystem::real();
  files.create(aside_of(path))->close();
  files.remove(aside_of(path));
}

}  // namespace brood
