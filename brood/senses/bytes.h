// Bytes: a stream of bytes pulled in blocks from a file, from all text files of a directory tree, or from
// standard input. It never holds more than the caller's block. Zero bytes are a stream, too.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace brood {

// Not thread-safe. Throws Error that names the file and the mend.
class ByteStream {
 public:
  // "-": standard input. A directory: its text files (text_files below), one after the other, nothing between
  // them. Anything else: that file, pipes and devices included.
  static ByteStream open(const std::string& source);
  // The same from several sources, one after the other.
  static ByteStream open(std::span<const std::string> sources);

  ByteStream(ByteStream&&) noexcept;
  ByteStream& operator=(ByteStream&&) noexcept;
  ~ByteStream();

  // Puts the next bytes into the front of `block` and says how many: at least one, or 0 at the end. Waits
  // only while there is none, so that a live pipe is passed on as it comes.
  int64_t read(std::span<uint8_t> block);

  int64_t total() const;  // bytes in all when it was opened; −1 when that cannot be known (pipes)
  const std::string& current() const;  // the file that the last byte came from, for people
  // Files and folders of its directories that could not be read and are left out.
  const std::vector<std::string>& unreadable() const;

 private:
  struct Impl;
  explicit ByteStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The regular files of a tree that hold text, sorted by path, so that every run reads the same stream. Left
// out are files with a NUL among their first 64 KiB (binaries), symbolic links, what cannot be read (which is
// added to `unreadable` when that is not null), and whole directories of things that were made and not written: .git, .hg, .svn, build, build-*, build_*, those
// of CMake (CMakeCache.txt) and model directories (model.safetensors). Throws Error when `directory` cannot
// be read or no file is left.
std::vector<std::string> text_files(const std::string& directory,
                                    std::vector<std::string>* unreadable = nullptr);

}  // namespace brood
