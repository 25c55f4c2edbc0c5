#include "brood/base/directory_update.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "tests/fixture/memory_file_system.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"

namespace brood {
namespace {

using Files = std::map<std::string, std::string>;

const std::vector<std::string> kMembers = {"config", "model", "state"};
const Files kOld = {{"config", "old"}, {"model", "old model"}, {"state", "old state"}};
const Files kNew = {{"config", "new"}, {"model", "the new model"}};  // has no state
const Files kThird = {{"config", "third"}, {"model", "3"}, {"state", "3"}};

void save(FileSystem& files, const std::string& directory, const Files& contents) {
  DirectoryUpdate update(directory, kMembers, files);
  for (const auto& [name, bytes] : contents) {
    const auto file = files.create(update.path(name));
    file->append(std::as_bytes(std::span(bytes)));
    file->sync();
    file->close();
  }
  update.commit();
}

Files load(MemoryFileSystem& disk, const std::string& directory) {
  const DirectorySnapshot snapshot(directory, disk);
  Files found;
  for (const std::string& member : kMembers)
    if (snapshot.has(member)) found[member] = disk.read(snapshot.path(member));
  return found;
}

MemoryFileSystem disk_with_old_save() {
  MemoryFileSystem disk;
  disk.make_directory("/home");
  disk.sync_directory("/");
  save(disk, "/home/m", kOld);
  disk.write("/home/m/notes", "the user's own");
  return disk;
}

// What is found must be all old or all new, new when the save said that it is done; the user's file is there;
// and the next save works.
void expect_whole(MemoryFileSystem disk, bool done, const std::string& when) {
  const Files found = load(disk, "/home/m");
  EXPECT_TRUE(found == kNew || (!done && found == kOld)) << when;
  EXPECT_EQ(disk.read("/home/m/notes"), "the user's own") << when;
  save(disk, "/home/m", kThird);
  EXPECT_EQ(load(disk, "/home/m"), kThird) << when;
  EXPECT_EQ(disk.names("/home/m"), (std::vector<std::string>{"config", "model", "notes", "state"})) << when;
}

TEST(DirectoryUpdate, ReplacesAllMembersAndNothingElse) {
  MemoryFileSystem disk = disk_with_old_save();
  EXPECT_EQ(load(disk, "/home/m"), kOld);
  save(disk, "/home/m", kNew);
  EXPECT_EQ(load(disk, "/home/m"), kNew);
  EXPECT_EQ(disk.names("/home/m"), (std::vector<std::string>{"config", "model", "notes"}));
  save(disk, "/home/m", {});
  EXPECT_EQ(load(disk, "/home/m"), Files{});
}

TEST(DirectoryUpdate, WithoutCommitNothingChanges) {
  MemoryFileSystem disk = disk_with_old_save();
  {
    DirectoryUpdate update("/home/m", kMembers, disk);
    disk.write(update.path("model"), "half a th");
    EXPECT_EQ(load(disk, "/home/m"), kOld);
  }
  EXPECT_EQ(disk.names("/home/m"), (std::vector<std::string>{"config", "model", "notes", "state"}));
}

// The k-th change of the disk fails, for every k.
TEST(DirectoryUpdate, AFailureAtAnyCallLeavesOldOrNew) {
  bool finished = false;
  for (int64_t k = 0; !finished; ++k) {
    MemoryFileSystem disk = disk_with_old_save();
    disk.fail_at(disk.calls() + k);
    try {
      save(disk, "/home/m", kNew);
      finished = true;
    } catch (const Error& error) {
      expect_contains(error.what(), "No space left");
      const bool promised = std::string(error.what()).find("the save is complete") != std::string::npos;
      EXPECT_EQ(load(disk, "/home/m"), promised ? kNew : kOld) << "call " << k;
    }
    disk.fail_at(-1);
    expect_whole(disk, finished, fmt::format("call {}", k));
    ASSERT_LT(k, 1000);
  }
}

// The process is killed at the k-th call (what was written stays), or the power is cut there (what was not
// synced may be lost), for every k and every disk that can be left.
TEST(DirectoryUpdate, AKillOrAPowerCutAtAnyCallLeavesOldOrNew) {
  bool finished = false;
  int64_t disks = 0;
  for (int64_t k = 0; !finished; ++k) {
    MemoryFileSystem disk = disk_with_old_save();
    disk.die_at(disk.calls() + k);
    try {
      save(disk, "/home/m", kNew);
      finished = true;
    } catch (const Died&) {
    }
    for (const MemoryFileSystem& left : disk.after_power_cut()) {
      expect_whole(left, finished, fmt::format("call {}, disk {}", k, disks));
      ++disks;
    }
    ASSERT_LT(k, 1000);
  }
  EXPECT_GT(disks, 100);
}

// A second death, while what the first one left is being repaired.
TEST(DirectoryUpdate, AKillDuringRepairLeavesAWholeSave) {
  bool first_finished = false;
  for (int64_t k = 0; !first_finished; ++k) {
    MemoryFileSystem disk = disk_with_old_save();
    disk.die_at(disk.calls() + k);
    try {
      save(disk, "/home/m", kNew);
      first_finished = true;
    } catch (const Died&) {
    }
    bool second_finished = false;
    for (int64_t j = 0; !second_finished; ++j) {
      MemoryFileSystem again = disk;
      again.die_at(again.calls() + j);
      try {
        save(again, "/home/m", kThird);
        second_finished = true;
      } catch (const Died&) {
      }
      for (MemoryFileSystem& left : again.after_power_cut()) {
        const Files found = load(left, "/home/m");
        EXPECT_TRUE(found == kOld || found == kNew || found == kThird) << k << ", " << j;
      }
    }
  }
}

TEST(DirectoryUpdate, AKillWhileTheDirectoryIsMadeLeavesNothingOrAll) {
  bool finished = false;
  for (int64_t k = 0; !finished; ++k) {
    MemoryFileSystem disk;
    disk.die_at(k);
    try {
      save(disk, "/new/deep/m", kNew);
      finished = true;
    } catch (const Died&) {
    }
    for (MemoryFileSystem& left : disk.after_power_cut()) {
      const Files found = left.exists("/new/deep/m") ? load(left, "/new/deep/m") : Files{};
      EXPECT_TRUE(found == kNew || (!finished && found.empty()));
    }
  }
}

TEST(DirectoryUpdate, WorksOnTheRealFileSystem) {
  ScratchDirectory scratch;
  FileSystem& files = FileSystem::real();
  const std::string directory = scratch / "a/b/";  // made, with what is above it
  save(files, directory, kOld);
  scratch.write("a/b/notes", "the user's own");
  save(files, directory, kNew);
  const DirectorySnapshot snapshot(directory, files);
  EXPECT_TRUE(snapshot.has("model"));
  EXPECT_FALSE(snapshot.has("state"));
  EXPECT_EQ(scratch.read("a/b/model"), kNew.at("model"));
  EXPECT_EQ(files.names(directory), (std::vector<std::string>{"config", "model", "notes"}));
}

TEST(DirectoryUpdate, OneWriterAtATime) {
  ScratchDirectory scratch;
  FileSystem& files = FileSystem::real();
  {
    DirectoryUpdate first(scratch / "m", kMembers, files);
    expect_contains(message_of([&] { DirectoryUpdate(scratch / "m", kMembers, files); }),
                    "another process is saving there");
    const DirectorySnapshot reader(scratch / "m", files);  // readers need not wait for the writing
    EXPECT_FALSE(reader.has("model"));
  }
  save(files, scratch / "m", kNew);
  EXPECT_EQ(scratch.read("m/model"), kNew.at("model"));
}

TEST(DirectoryUpdate, SaysWhyItCannotStart) {
  ScratchDirectory scratch;
  FileSystem& files = FileSystem::real();
  scratch.write("file", "x");
  expect_contains(message_of([&] { DirectoryUpdate(scratch / "file", kMembers, files); }), "Not a directory");
  expect_contains(message_of([&] { DirectoryUpdate(scratch / "file/below", kMembers, files); }), "ile");
  expect_contains(message_of([&] { DirectorySnapshot(scratch / "absent", files); }),
                  "No such file or directory");
}

}  // namespace
}  // namespace brood
