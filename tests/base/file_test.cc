#include "brood/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>

#include "brood/base/file_system.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"

namespace brood {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST(File, ReadsWholeFilesOfAnyLength) {
  ScratchDirectory scratch;
  for (const size_t length : {0u, 1u, 16383u, 16384u, 16385u, 100000u}) {
    std::string bytes(length, '\0');
    for (size_t i = 0; i < length; ++i) bytes[i] = char(i * 7);
    const std::string path = scratch.write("f", bytes);
    EXPECT_EQ(read_file(path, int64_t(length)), bytes);
    const MappedFile mapped = MappedFile::open(path);
    ASSERT_EQ(mapped.bytes().size(), length);
    EXPECT_TRUE(length == 0 || std::memcmp(mapped.bytes().data(), bytes.data(), length) == 0);
    if (length) expect_contains(message_of([&] { read_file(path, int64_t(length) - 1); }), "longer than");
  }
}

TEST(File, SaysWhyItCannotRead) {
  ScratchDirectory scratch;
  expect_contains(message_of([&] { read_file(scratch / "absent", 10); }),
                  "/absent: No such file or directory; check");
  expect_contains(message_of([&] { read_file(scratch.path(), 10); }), "Is a directory; name a file in it");
  expect_contains(message_of([&] { MappedFile::open(scratch / "absent"); }), "No such file");
  expect_contains(message_of([&] { MappedFile::open(scratch.path()); }), "Is a directory");
  scratch.write("file", "x");
  expect_contains(message_of([&] { read_file(scratch / "file/below", 10); }), "Not a directory");
  expect_contains(message_of([&] { MappedFile::open("/dev/null"); }), "not a regular file");
}

TEST(File, AMapOutlivesTheNameAndItsCopies) {
  ScratchDirectory scratch;
  const std::string path = scratch.write("f", "old");
  auto first = std::make_unique<MappedFile>(MappedFile::open(path));
  const MappedFile second = *first;
  first.reset();
  write_durably(FileSystem::real(), path, bytes_of("new one"));
  EXPECT_EQ(std::memcmp(second.bytes().data(), "old", 3), 0);
  EXPECT_EQ(scratch.read("f"), "new one");
}

TEST(FileSystem, WritesDurablyAndLeavesNothingBeside) {
  ScratchDirectory scratch;
  FileSystem& files = FileSystem::real();
  write_durably(files, scratch / "f", bytes_of("one"));
  write_durably(files, scratch / "f", bytes_of(""));
  EXPECT_EQ(scratch.read("f"), "");
  EXPECT_EQ(files.names(scratch.path()), std::vector<std::string>{"f"});
  expect_contains(message_of([&] { write_durably(files, scratch / "no/f", bytes_of("x")); }), "No such file");
  std::filesystem::create_directory(scratch / "taken");
  EXPECT_THROW(write_durably(files, scratch / "taken", bytes_of("x")), Error);
  EXPECT_EQ(files.names(scratch.path()), (std::vector<std::string>{"f", "taken"}));
}

TEST(FileSystem, AFullDiskIsAClearError) {
  if (!FileSystem::real().exists("/dev/full")) GTEST_SKIP() << "needs /dev/full";
  const auto file = FileSystem::real().create("/dev/full");
  expect_contains(message_of([&] { file->append(bytes_of("x")); }),
                  "writing /dev/full: No space left on device; free some space");
}

TEST(FileSystem, MakesRemovesAndLinks) {
  ScratchDirectory scratch;
  FileSystem& files = FileSystem::real();
  files.make_directory(scratch / "d");
  files.make_directory(scratch / "d");  // there already
  files.remove(scratch / "absent");
  scratch.write("f", "x");
  expect_contains(message_of([&] { files.make_directory(scratch / "f"); }), "making the directory");
  EXPECT_TRUE(files.link(scratch / "f", scratch / "g"));
  EXPECT_EQ(scratch.read("g"), "x");
  files.rename(scratch / "f", scratch / "d/h");
  EXPECT_EQ(files.names(scratch.path()), (std::vector<std::string>{"d", "g"}));
  expect_contains(message_of([&] { files.remove(scratch / "d"); }), "not empty");
  files.remove(scratch / "d/h");
  files.remove(scratch / "d");
  files.sync_directory(scratch.path());
  EXPECT_FALSE(files.exists(scratch / "d"));
  EXPECT_THROW(files.names(scratch / "d"), Error);
  EXPECT_THROW(files.link(scratch / "absent", scratch / "x"), Error);
  EXPECT_THROW(files.sync_directory(scratch / "absent"), Error);
}

TEST(FileSystem, LocksExclude) {
  ScratchDirectory scratch;
  FileSystem& files = FileSystem::real();
  auto shared = files.lock(scratch.path(), false, 0);
  EXPECT_TRUE(files.lock(scratch.path(), false, 0));
  EXPECT_FALSE(files.lock(scratch.path(), true, 0.02));
  shared.reset();
  const auto exclusive = files.lock(scratch.path(), true, 0);
  EXPECT_TRUE(exclusive);
  EXPECT_FALSE(files.lock(scratch.path(), false, 0));
}

TEST(Disk, IsAskedForRoomBeforeItIsFull) {
  ScratchDirectory scratch;
  require_disk(scratch / "f", 1, "writing f: it", "choose another place");
  expect_contains(message_of([&] { require_disk(scratch / "f", 1e20, "writing f: 3 bytes", "take less"); }),
                  "writing f: 3 bytes need 100000000000.0 GB and the disk of ");
}

}  // namespace
}  // namespace brood
