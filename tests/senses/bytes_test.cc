#include "brood/senses/bytes.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"

namespace brood {
namespace {

std::string all_of(ByteStream stream, size_t block_size = 7) {
  std::string text;
  std::vector<uint8_t> block(block_size);
  while (const int64_t n = stream.read(block)) text.append(block.begin(), block.begin() + n);
  EXPECT_EQ(stream.read(block), 0);  // the end stays the end
  return text;
}

std::vector<std::string> below(const ScratchDirectory& scratch, std::vector<std::string> paths) {
  for (std::string& path : paths) path = path.substr(scratch.path().size() + 1);
  return paths;
}

// Standard input stands for another file while this lives.
class RedirectedInput {
 public:
  explicit RedirectedInput(int fd) : saved_(::dup(STDIN_FILENO)) { ::dup2(fd, STDIN_FILENO); }
  ~RedirectedInput() {
    ::dup2(saved_, STDIN_FILENO);
    ::close(saved_);
  }

 private:
  int saved_;
};

TEST(Bytes, ReadsAFileInBlocksOfAnySize) {
  ScratchDirectory scratch;
  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes += char(i * 31);
  for (const size_t length : {0u, 1u, 2u, 999u, 1000u}) {
    const std::string path = scratch.write("f", bytes.substr(0, length));
    for (const size_t block : {1u, 2u, 7u, 1000u, 4096u}) {
      ByteStream stream = ByteStream::open(path);
      EXPECT_EQ(stream.total(), int64_t(length));
      EXPECT_EQ(all_of(std::move(stream), block), bytes.substr(0, length));
    }
  }
}

TEST(Bytes, ReadsTheTextFilesOfATreeInOrder) {
  ScratchDirectory scratch;
  scratch.write("b.txt", "B");
  scratch.write("a/z.txt", "Z");
  scratch.write("a/deep/er/x", "X");
  scratch.write("a.txt", "A");
  scratch.write("empty", "");
  scratch.write("binary", std::string("a\0b", 3));
  scratch.write("late", std::string(65535, 'l') + '\0');   // the last byte that is looked at
  scratch.write("later", std::string(65536, 'm') + '\0');  // the first that is not
  scratch.write(".git/config", "no");
  scratch.write("a/.git/config", "no");
  scratch.write("build/x", "no");
  scratch.write("build-debug/x", "no");
  scratch.write("build_2/x", "no");
  scratch.write("builders/x", "yes");
  scratch.write("out/CMakeCache.txt", "no");
  scratch.write("out/x", "no");
  scratch.write("model/model.safetensors", "no");
  scratch.write("model/config.json", "no");
  scratch.write(".ci/run", "yes");
  std::filesystem::create_symlink(scratch / "a.txt", scratch / "link");
  std::filesystem::create_directory_symlink(scratch.path(), scratch / "a/loop");
  ASSERT_EQ(::mkfifo((scratch / "pipe").c_str(), 0600), 0);  // must not wait for a writer

  EXPECT_EQ(below(scratch, text_files(scratch.path())),
            (std::vector<std::string>{".ci/run", "a.txt", "a/deep/er/x", "a/z.txt", "b.txt", "builders/x",
                                      "empty", "later"}));
  ByteStream stream = ByteStream::open(scratch.path());
  const std::string wanted = "yesAXZByes" + std::string(65536, 'm') + '\0';
  EXPECT_EQ(stream.total(), int64_t(wanted.size()));
  EXPECT_EQ(all_of(std::move(stream)), wanted);
}

// The directory that was named is read whatever it is called.
TEST(Bytes, ReadsADirectoryCalledBuild) {
  ScratchDirectory scratch;
  scratch.write("build/x", "yes");
  EXPECT_EQ(all_of(ByteStream::open(scratch / "build")), "yes");
}

TEST(Bytes, PassesOverAFileThatWentAwayAndSaysWhereItIs) {
  ScratchDirectory scratch;
  for (const char* name : {"a", "b", "c"}) scratch.write(name, name);
  ByteStream stream = ByteStream::open(scratch.path());
  std::filesystem::remove(scratch / "b");
  uint8_t byte = 0;
  EXPECT_EQ(stream.read({&byte, 1}), 1);
  EXPECT_EQ(stream.current(), scratch / "a");
  EXPECT_EQ(stream.read({&byte, 1}), 1);
  EXPECT_EQ(byte, 'c');
  EXPECT_EQ(stream.current(), scratch / "c");
}

TEST(Bytes, JoinsSources) {
  ScratchDirectory scratch;
  const std::vector<std::string> sources = {scratch.write("one", "1"), scratch.write("two", "2")};
  ByteStream stream = ByteStream::open(sources);
  EXPECT_EQ(stream.total(), 2);
  EXPECT_EQ(all_of(std::move(stream)), "12");
  EXPECT_EQ(all_of(ByteStream::open(std::span<const std::string>())), "");
}

TEST(Bytes, ReadsStandardInputAsItComes) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const RedirectedInput redirected(ends[0]);
  ::close(ends[0]);
  ByteStream stream = ByteStream::open("-");
  EXPECT_EQ(stream.total(), -1);
  std::vector<uint8_t> block(100);
  ASSERT_EQ(::write(ends[1], "ab", 2), 2);
  EXPECT_EQ(stream.read(block), 2);  // does not wait for a full block
  EXPECT_EQ(stream.current(), "standard input");
  std::thread writer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(::write(ends[1], "c", 1), 1);
    ::close(ends[1]);
  });
  EXPECT_EQ(stream.read(block), 1);
  EXPECT_EQ(stream.read(block), 0);
  writer.join();
}

TEST(Bytes, ReadsANamedPipe) {
  ScratchDirectory scratch;
  const std::string path = scratch / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  ByteStream stream = ByteStream::open(path);
  EXPECT_EQ(stream.total(), -1);
  std::thread writer([&] { std::ofstream(path) << "through"; });
  EXPECT_EQ(all_of(std::move(stream)), "through");
  writer.join();
}

TEST(Bytes, SaysWhyItCannotRead) {
  ScratchDirectory scratch;
  expect_contains(message_of([&] { ByteStream::open(scratch / "absent"); }),
                  "absent: No such file or directory; check the spelling");
  scratch.write("file", "x");
  expect_contains(message_of([&] { ByteStream::open(scratch / "file/below"); }), "Not a directory");
  scratch.write("binaries/b", std::string(1, '\0'));
  expect_contains(message_of([&] { ByteStream::open(scratch / "binaries"); }),
                  "no text file in it (1 others)");
  if (::geteuid() != 0) {
    std::filesystem::permissions(scratch / "file", std::filesystem::perms::none);
    expect_contains(message_of([&] { ByteStream::open(scratch / "file"); }),
                    "Permission denied; check the permissions");
  }
}

}  // namespace
}  // namespace brood
