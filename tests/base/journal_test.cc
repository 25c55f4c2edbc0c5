#include "brood/base/journal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/fixture/memory_file_system.h"
#include "tests/fixture/scratch_directory.h"

namespace brood {
namespace {

constexpr uint64_t kStream = 0x123456789abcdef0u;
constexpr double kNever = 1e6;  // seconds between syncs

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
std::string text_of(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

std::string random_text(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::string text(n, 0);
  for (char& c : text) c = char(random());
  return text;
}

struct Found {
  int64_t begin = -1;
  std::string bytes;
  std::vector<std::pair<int64_t, std::string>> notes;
  bool has_hole = false;
  int64_t damage = 0;
  int64_t end() const { return begin + int64_t(bytes.size()); }
};

Found read(const std::string& directory, FileSystem& files, uint64_t stream = kStream) {
  Found found;
  found.damage = read_journal(
      directory, stream,
      [&](const JournalRecord& record) {
        if (found.begin < 0) found.begin = record.position;
        found.has_hole |= record.position != found.end();
        if (record.kind == JournalRecord::Kind::kNote)
          found.notes.emplace_back(record.position, text_of(record.bytes));
        else
          found.bytes += text_of(record.bytes);
        return true;
      },
      files);
  return found;
}

TEST(Journal, GivesBackWhatWasWritten) {
  const ScratchDirectory scratch;
  FileSystem& files = FileSystem::real();
  const std::string text = random_text(3000000, 1);
  {
    Journal journal(scratch / "j", kStream, 0, 0.001);
    journal.note("begin");
    std::mt19937 random(2);
    for (size_t at = 0; at < text.size();) {
      const size_t n = std::min(text.size() - at, size_t(random() % (at < 1000 ? 10 : 200000)));
      journal.append(bytes_of(text).subspan(at, n));
      at += n;
    }
    journal.note("end");
    EXPECT_EQ(journal.position(), 3000000);
  }
  const Found found = read(scratch / "j", files);
  EXPECT_EQ(found.begin, 0);
  EXPECT_EQ(found.damage, 0);
  EXPECT_FALSE(found.has_hole);
  EXPECT_TRUE(found.bytes == text);
  EXPECT_EQ(found.notes, (std::vector<std::pair<int64_t, std::string>>{{0, "begin"}, {3000000, "end"}}));
  EXPECT_EQ(read(scratch / "j", files, kStream + 1).begin, -1);
  EXPECT_EQ(read(scratch / "none", files).begin, -1);
  EXPECT_GE(files.names(scratch / "j").size(), 3u);
}

TEST(Journal, ForgetsWholeSegmentsAndGoesOn) {
  const ScratchDirectory scratch;
  FileSystem& files = FileSystem::real();
  const std::string text = random_text(5000000, 3);
  for (size_t begin : {0u, 2500000u}) {
    Journal journal(scratch / "j", kStream, int64_t(begin), kNever);
    for (size_t at = begin; at < begin + 2500000; at += 50000)
      journal.append(bytes_of(text).subspan(at, 50000));
  }
  Journal journal(scratch / "j", kStream, 5000000, kNever);
  EXPECT_TRUE(read(scratch / "j", files).bytes == text);
  const size_t segments = files.names(scratch / "j").size();
  journal.forget_before(3000000);
  Found found = read(scratch / "j", files);
  EXPECT_LE(found.begin, 3000000);
  EXPECT_GT(found.begin, 3000000 - 1200000);
  EXPECT_TRUE(found.bytes == text.substr(size_t(found.begin)));
  EXPECT_LT(files.names(scratch / "j").size(), segments);
  journal.forget_before(5000000);
  EXPECT_EQ(files.names(scratch / "j").size(), 1u);
}

TEST(Journal, AnotherStreamTakesTheFolderOver) {
  MemoryFileSystem files;
  { Journal(std::string("/j"), kStream, 0, kNever, files).append(bytes_of("old")); }
  { Journal(std::string("/j"), kStream + 1, 0, kNever, files).append(bytes_of("new")); }
  EXPECT_EQ(read("/j", files, kStream + 1).bytes, "new");
  EXPECT_EQ(read("/j", files).begin, -1);
}

// Cut anywhere, or with any bit turned over: what is read is the front of what was written, and a journal that goes on
// from there holds no trace of the rest.
TEST(Journal, DamageCutsItOffAtTheLastWholeRecord) {
  MemoryFileSystem whole;
  const std::string text = random_text(60, 4);
  std::vector<int64_t> borders{0};
  {
    Journal journal("/j", kStream, 0, kNever, whole);
    for (size_t at = 0; at < text.size(); at += 12) {
      journal.append(bytes_of(text).subspan(at, 12));
      borders.push_back(journal.position());
    }
  }
  const std::string name = "/j/00000001.journal", stored = whole.read(name);
  for (size_t bit = 0; bit < 2 * 8 * stored.size(); ++bit) {
    std::string damaged = stored;
    const size_t at = bit / 8 % stored.size();
    if (bit < 8 * stored.size())
      damaged[at] = char(damaged[at] ^ (1 << bit % 8));
    else if (bit % 8 == 0)
      damaged.resize(at);
    else
      continue;
    MemoryFileSystem files;
    files.make_directory("/j");
    files.write(name, damaged);
    const Found found = read("/j", files);
    const int64_t end = found.begin < 0 ? 0 : found.end();
    ASSERT_EQ(found.bytes, text.substr(0, size_t(end))) << bit;
    ASSERT_TRUE(std::binary_search(borders.begin(), borders.end(), end)) << bit;
    if (bit < 8 * stored.size()) {
      ASSERT_LT(end, 60);
      ASSERT_GT(found.damage, 0);
    }
    { Journal("/j", kStream, end, kNever, files).append(bytes_of("and on")); }
    const Found after = read("/j", files);
    ASSERT_EQ(after.bytes, text.substr(0, size_t(end)) + "and on") << bit;
    ASSERT_FALSE(after.has_hole);
  }
}

TEST(Journal, ASegmentDamagedInTheMiddleLeavesAHoleThatIsSeen) {
  const ScratchDirectory scratch;
  FileSystem& files = FileSystem::real();
  const std::string text = random_text(3000000, 5);
  {
    Journal journal(scratch / "j", kStream, 0, kNever);
    for (size_t at = 0; at < text.size(); at += 10000) journal.append(bytes_of(text).subspan(at, 10000));
  }
  std::string second = scratch.read("j/00000002.journal");
  second[second.size() / 2] ^= 1;
  scratch.write("j/00000002.journal", second);
  Found found = read(scratch / "j", files);
  EXPECT_TRUE(found.has_hole);
  EXPECT_GT(found.damage, 0);
  // Where it is cut off before the hole, what lies behind goes.
  { Journal journal(scratch / "j", kStream, 1100000, kNever); }
  found = read(scratch / "j", files);
  EXPECT_FALSE(found.has_hole);
}

// At every call that changes the disk the disk fills up, or the power goes: what a sync had promised is there, and
// nothing that was never written.
TEST(Journal, KeepsItsPromiseWhenThePowerGoes) {
  const std::string text = random_text(400, 6);
  int64_t calls = 1000;
  for (int64_t call = 0; call < calls; ++call) {
    for (const bool dies : {true, false}) {
      MemoryFileSystem files;
      if (dies)
        files.die_at(call);
      else
        files.fail_at(call);
      int64_t promised = 0;
      try {
        Journal journal("/j", kStream, 0, kNever, files);
        for (size_t at = 0; at < text.size(); at += 40) {
          journal.append(bytes_of(text).subspan(at, 40));
          if (at % 80 == 0) continue;
          journal.sync();
          promised = journal.position();
        }
        files.sync_directory("/");
        calls = files.calls();
      } catch (const Died&) {
      } catch (const Error&) {
      }
      // The folder itself is the save's to sync.
      if (!files.exists("/j")) continue;
      files.die_at(-1);
      files.fail_at(-1);
      files.sync_directory("/");
      for (MemoryFileSystem& disk : files.after_power_cut()) {
        const Found found = read("/j", disk);
        ASSERT_GE(int64_t(found.bytes.size()), promised) << call;
        ASSERT_EQ(found.bytes, text.substr(0, found.bytes.size()));
      }
    }
  }
  EXPECT_LT(calls, 1000);
}

}  // namespace
}  // namespace brood
