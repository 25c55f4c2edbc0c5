#include "brood/base/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>
#include <thread>

namespace brood {
namespace {

std::string read_all(int descriptor) {
  std::string text;
  char block[512];
  ssize_t n;
  while ((n = ::read(descriptor, block, sizeof(block))) > 0) text.append(block, size_t(n));
  return text;
}

TEST(ProgressLine, WritesPlainLinesWhereThereIsNoTerminal) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  {
    ProgressLine line(ends[1]);
    EXPECT_FALSE(line.due()) << "the first second is quiet";
    line.show("one");
    EXPECT_FALSE(line.due());
    line.note("a note");
    line.show("two");
  }
  ::close(ends[1]);
  EXPECT_EQ(read_all(ends[0]), "one\na note\ntwo\n");
  ::close(ends[0]);
}

TEST(ProgressLine, RewritesOneLineOnATerminal) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  ASSERT_GE(master, 0);
  ASSERT_EQ(::grantpt(master) | ::unlockpt(master), 0);
  const int terminal = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  ProgressLine line(terminal);
  line.show("one");
  line.show(std::string(500, 'x'));
  line.note("stays");
  line.show("two");
  line.finish();
  const std::string seen = read_all(master);
  EXPECT_EQ(seen.substr(0, 7), "\r\x1b[Kone");
  EXPECT_EQ(seen.find("\n"), seen.find("stays") + 6) << "long lines are cut, not wrapped: " << seen;
  EXPECT_EQ(seen.substr(seen.size() - 9), "\r\x1b[Ktwo\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  EXPECT_TRUE(line.due()) << "a few times a second";
  ::close(terminal);
  ::close(master);
}

TEST(ProgressLine, IsQuietWhereNobodyReads) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[1]);
  ProgressLine line(ends[1]);  // closed
  line.show("into the void");
  ::close(ends[0]);
}

TEST(ProgressText, IsForPeople) {
  EXPECT_EQ(duration_text(0.44), "0.4 s");
  EXPECT_EQ(duration_text(41.4), "41 s");
  EXPECT_EQ(duration_text(59.7), "1 min 00 s");
  EXPECT_EQ(duration_text(185), "3 min 05 s");
  EXPECT_EQ(duration_text(7620), "2 h 07 min");
  EXPECT_EQ(duration_text(-1), "?");
  EXPECT_EQ(duration_text(1.0 / 0.0), "?");
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(512), "512 B");
  EXPECT_EQ(bytes_text(999.6), "1 kB");
  EXPECT_EQ(bytes_text(1093400), "1.09 MB");
}

}  // namespace
}  // namespace brood
