// FileSystem: everything that changes what is on disk, behind one small interface, so that tests can fill the
// disk, tear a write or pull the plug at every single call.
//
// What a POSIX file system promises, and all that we build on: rename() replaces a name at once; the bytes of
// a file are safe after its sync(), a name in a directory after sync_directory().
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace brood {

class WritableFile {
 public:
  virtual ~WritableFile() = default;  // closes; errors are lost, so call close()
  virtual void append(std::span<const std::byte> bytes) = 0;
  virtual void sync() = 0;  // the bytes are on the disk when it returns
  virtual void close() = 0;
};

// Held as long as the object lives; between threads and processes (flock).
class FileLock {
 public:
  virtual ~FileLock() = default;
};

// All throw Error with what was being done and the system's reason.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  static FileSystem& real();  // thread-safe

  virtual std::unique_ptr<WritableFile> create(
      const std::string& path) = 0;  // empty; an old one is cut to nothing
  // A file that is there, cut to its first `bytes` bytes, to be gone on with. Throws Error also when it is
  // shorter.
  virtual std::unique_ptr<WritableFile> extend(const std::string& path, int64_t bytes) = 0;
  virtual void rename(const std::string& from, const std::string& to) = 0;  // replaces `to`
  virtual void remove(const std::string& path) = 0;          // file or empty directory; absent: fine
  virtual void make_directory(const std::string& path) = 0;  // one level; present: fine
  virtual void sync_directory(const std::string& path) = 0;
  // A second name for a file. False where the file system knows no hard links.
  virtual bool link(const std::string& from, const std::string& to) = 0;

  // Locks the directory that has this name when the lock is got. Null when `wait_seconds` passed and others
  // still hold it. Where the file system knows no locks there is nothing to hold and the lock is given.
  virtual std::unique_ptr<FileLock> lock(const std::string& directory, bool exclusive,
                                         double wait_seconds) = 0;

  // Reading, so that a fault-injecting implementation sees the same world.
  virtual bool exists(const std::string& path) = 0;
  virtual std::string contents(const std::string& path,
                               int64_t most) = 0;  // of a file; its first `most` bytes
  virtual std::vector<std::string> names(const std::string& directory) = 0;  // of its entries, sorted
};

// Writes a whole file so that a kill leaves the old one or the new one: to a temporary beside it, sync,
// rename, sync.
void write_durably(FileSystem& files, const std::string& path, std::span<const std::byte> bytes);
// The same where something else writes, and syncs, the file of the name that it is given. What it throws as
// an Error leaves no such file and is thrown on.
void write_durably(FileSystem& files, const std::string& path,
                   const std::function<void(const std::string& aside)>& write);

// Throws Error when write_durably could not write `path`, or would put a file in the place of a folder or a
// device: to be known before hours of work. Leaves what is there.
void require_writable(const std::string& path);

}  // namespace brood
