// Several files of one directory replaced together: whoever looks sees all of the old ones or all of the new
// ones, after a kill or a power cut at any moment, too. Other files in the directory are left alone.
//
// A rename replaces one name; nothing that every file system knows replaces four. So a save is a journal of
// itself:
//
//   1. write      the new files into DIR/.save-writing, each synced, then that directory
//   2. commit     rename DIR/.save-writing to DIR/.save-ready, sync DIR. This one rename is the save.
//   3. install    link each new file to its place in DIR (under a spare name, renamed over the old one),
//                 remove the members that the new set does not have, sync DIR
//   4. discard    rename DIR/.save-ready to DIR/.save-done, sync DIR, remove it
//
// A reader takes the members from DIR/.save-ready when that exists, else from DIR. Before 2 it does not exist
// and DIR is old; from 2 to 4 it exists, complete and untouched; after 4 DIR itself holds the new set. Killed
// before 2, the next save throws the rest away; killed after 2, it repeats 3 and 4 first. Programs that know
// nothing of this and look at DIR alone see whole files always, and for the instant of 3 perhaps new ones
// beside old ones.
//
// Living processes are kept apart by flock: one writer at a time (on .save-writing), and no reader between
// two looks at a directory that steps 2 to 4 are changing (on DIR, shared and exclusive). The locks vanish
// with their process.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "brood/base/file_system.h"

namespace brood {

// One save. Not thread-safe. Throws Error; until commit() returns or says otherwise, the old files are what
// is read.
class DirectoryUpdate {
 public:
  // members: all names that belong together, those that this save leaves out included. The directory is made
  // when it is not there. Throws Error also when another save into it is under way.
  DirectoryUpdate(const std::string& directory, std::vector<std::string> members, FileSystem& files);
  DirectoryUpdate(const DirectoryUpdate&) = delete;
  DirectoryUpdate& operator=(const DirectoryUpdate&) = delete;
  ~DirectoryUpdate();  // without commit(): what was written is removed

  std::string path(
      const std::string& member) const;  // where to write it; to be synced and closed before commit()
  void commit();

 private:
  void install();

  std::string directory_;
  std::vector<std::string> members_;
  FileSystem& files_;
  std::unique_ptr<FileLock> writing_;
  bool committed_ = false;
};

// One look: while it lives, path() names files of one and the same save. Open what is needed, then let go: a
// writer waits.
class DirectorySnapshot {
 public:
  DirectorySnapshot(const std::string& directory,
                    FileSystem& files);  // throws Error: no such directory, no permission
  std::string path(const std::string& member) const;
  bool has(const std::string& member) const { return files_.exists(path(member)); }

 private:
  FileSystem& files_;
  std::unique_ptr<FileLock> lock_;
  std::string place_;
};

}  // namespace brood
