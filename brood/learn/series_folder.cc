#include "brood/learn/series_folder.h"

#include <utility>

#include "brood/base/directories.h"
#include "brood/base/error.h"

namespace brood {

std::string series_file(const std::string& directory) { return directory + "/series.brood"; }
bool holds_series(const std::string& directory) {
  return !directory.empty() && FileSystem::real().exists(series_file(directory));
}

std::unique_ptr<FileLock> SeriesFolder::lock(const std::string& directory, FileSystem& files) {
  make_directories(files, directory);
  files.make_directory(journal_of(directory));
  return lock_journal(journal_of(directory), files);
}

SeriesFolder::SeriesFolder(const std::string& directory, std::unique_ptr<FileLock> lock, FileSystem& files)
    : directory_(directory), files_(files), alone_(std::move(lock)), writing_([this] { write(); }) {}

void SeriesFolder::keep_input(uint64_t stream, int64_t position, double sync_seconds) {
  BROOD_ASSERT(!saving() && !journal_);
  journal_.emplace(journal_of(directory_), stream, position, sync_seconds, files_, std::move(alone_));
}

void SeriesFolder::append(std::span<const uint8_t> bytes) {
  if (journal_) journal_->append(bytes);
}

void SeriesFolder::save(KeptSeries& kept, std::vector<std::shared_ptr<ExactlyOnceFile>> outputs) {
  BROOD_ASSERT(!saving() && kept.stream);
  bytes_ = series_bytes(kept);
  outputs_ = std::move(outputs);
  taken_ = kept.stream->source.taken;
  writing_.soon(0);
}

// What a save rests on is on the disk before it.
void SeriesFolder::write() {
  for (const auto& output : outputs_) output->sync();
  if (journal_) journal_->sync();
  write_durably(files_, series_file(directory_), bytes_);
  if (journal_) journal_->forget_before(taken_);
}

}  // namespace brood
