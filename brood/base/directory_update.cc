#include "brood/base/directory_update.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "brood/base/error.h"
#include "brood/base/file.h"

namespace brood {

namespace {

constexpr const char* kWriting = "/.save-writing";
constexpr const char* kReady = "/.save-ready";
constexpr const char* kDone = "/.save-done";
constexpr const char* kSpare = "/.save-spare";

// Steps 2 to 4 take milliseconds, opening a model some seconds: who waits longer waits for a process that
// hangs.
constexpr double kPatienceSeconds = 60;

void make_directories(const std::string& directory, FileSystem& files) {
  const std::filesystem::path path(directory);
  std::filesystem::path made;
  for (const auto& part : path) {
    const std::string parent = made.empty() ? "." : made.string();
    made /= part;
    if (files.exists(made.string())) continue;
    files.make_directory(made.string());
    files.sync_directory(parent);
  }
}

void remove_with_files(const std::string& directory, FileSystem& files) {
  if (!files.exists(directory)) return;
  for (const std::string& name : files.names(directory)) files.remove(directory + "/" + name);
  files.remove(directory);
}

// Where there are no hard links (FAT, some network file systems) a copy does the same, only slower.
void copy(const std::string& from, const std::string& to, FileSystem& files) {
  const MappedFile source = MappedFile::open(from);
  const auto file = files.create(to);
  file->append(source.bytes());
  file->sync();
  file->close();
}

}  // namespace

DirectoryUpdate::DirectoryUpdate(const std::string& directory, std::vector<std::string> members,
                                 FileSystem& files)
    : directory_(directory), members_(std::move(members)), files_(files) {
  make_directories(directory_, files_);
  const std::string aside = directory_ + kWriting;
  files_.make_directory(aside);
  writing_ = files_.lock(aside, true, 0);
  if (!writing_)
    fail("saving to {}: another process is saving there; wait for it or choose another directory",
         directory_);
  for (const std::string& name : files_.names(aside))
    files_.remove(aside + "/" + name);  // of a save that died
}

DirectoryUpdate::~DirectoryUpdate() {
  if (committed_) return;
  try {
    remove_with_files(directory_ + kWriting, files_);
  } catch (...) {  // it does no harm where it is; the next save removes it
  }
}

std::string DirectoryUpdate::path(const std::string& member) const {
  BROOD_ASSERT(std::find(members_.begin(), members_.end(), member) != members_.end());
  return directory_ + kWriting + "/" + member;
}

void DirectoryUpdate::commit() {
  files_.sync_directory(directory_ + kWriting);
  const auto guard = files_.lock(directory_, true, kPatienceSeconds);
  if (!guard)
    fail("saving to {}: another process has been reading it for too long; end it and save again", directory_);
  if (files_.exists(directory_ + kReady)) install();  // the end of a save that died after its commit
  files_.rename(directory_ + kWriting, directory_ + kReady);
  committed_ = true;
  try {
    files_.sync_directory(directory_);
    install();
  } catch (const Error& error) {
    fail_as(error, fmt::format("{} (the save is complete in {}{} and will be read from there)", error.what(),
                               directory_, kReady));
  }
}

void DirectoryUpdate::install() {
  const std::string ready = directory_ + kReady, spare = directory_ + kSpare;
  files_.remove(spare);
  for (const std::string& member : members_) {
    const std::string from = ready + "/" + member, to = directory_ + "/" + member;
    if (!files_.exists(from)) {
      files_.remove(to);
      continue;
    }
    if (!files_.link(from, spare)) copy(from, spare, files_);
    files_.rename(spare, to);
    files_.remove(spare);  // rename leaves it when both are already the same file
  }
  files_.sync_directory(directory_);
  remove_with_files(directory_ + kDone, files_);
  files_.rename(ready, directory_ + kDone);
  files_.sync_directory(directory_);
  remove_with_files(directory_ + kDone, files_);
}

DirectorySnapshot::DirectorySnapshot(const std::string& directory, FileSystem& files) : files_(files) {
  lock_ = files_.lock(directory, false, kPatienceSeconds);
  if (!lock_)
    fail("reading {}: another process has been saving there for too long; end it and try again", directory);
  place_ = directory + (files_.exists(directory + kReady) ? kReady : "");
}

std::string DirectorySnapshot::path(const std::string& member) const { return place_ + "/" + member; }

}  // namespace brood
