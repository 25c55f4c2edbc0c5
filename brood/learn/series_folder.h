// The folder that a series is kept in (docs/exactly-once.md): saves, which another thread writes, and of a pipe what came
// since the last.
//
//   DIR/series.brood    the last save (learn/series_file.h)
//   DIR/journal/        the input since then; of a file nothing, for it is read again
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "brood/base/background.h"
#include "brood/base/exactly_once_file.h"
#include "brood/learn/series_file.h"

namespace brood {

std::string series_file(const std::string& directory);
bool holds_series(const std::string& directory);

// All but what other threads do for it belongs to one thread. Throws Error.
class SeriesFolder {
 public:
  // Makes the folder, and those that it lies in. Refused while another process goes on with what is there.
  static std::unique_ptr<FileLock> lock(const std::string& directory, FileSystem& files = FileSystem::real());

  SeriesFolder(const std::string& directory, std::unique_ptr<FileLock> lock,
               FileSystem& files = FileSystem::real());

  // From here on the input is kept; position: bytes of it before.
  void keep_input(uint64_t stream, int64_t position, double sync_seconds);
  void append(std::span<const uint8_t> bytes);  // where it is kept

  // Begins to write this, and waits for what was written to these files before. Not while saving().
  void save(KeptSeries& kept, std::vector<std::shared_ptr<ExactlyOnceFile>> outputs);
  bool saving() const { return writing_.busy(); }
  void wait() { writing_.wait(); }
  void check() { writing_.check(); }  // throws what the last save threw

 private:
  void write();

  const std::string directory_;
  FileSystem& files_;
  std::unique_ptr<FileLock> alone_;
  std::optional<Journal> journal_;

  std::vector<std::byte> bytes_;  // what write() writes, and what goes with it
  std::vector<std::shared_ptr<ExactlyOnceFile>> outputs_;
  int64_t taken_ = 0;
  Background writing_;  // the last member: it ends before what it uses
};

}  // namespace brood
