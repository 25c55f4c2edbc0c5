// docs/adding-an-architecture.md shows lines of files: they are the lines that the files have.
#include <gtest/gtest.h>

#include <string>

#include "brood/base/file.h"

namespace brood {
namespace {

std::string text_of(const std::string& path) {
  return read_file(std::string(BROOD_SOURCE_DIR "/") + path, 1 << 20);
}

TEST(WorkedExample, TheLinesShownAreTheLinesInTheFiles) {
  const std::string page = text_of("docs/adding-an-architecture.md"), open = "\n```cpp\n", close = "\n```\n";
  int listings = 0;
  for (size_t at = page.find(open); at != std::string::npos; at = page.find(open, at)) {
    const size_t begin = at + open.size(), end = page.find(close, begin);
    ASSERT_NE(end, std::string::npos);
    // The file is the last one linked to before the listing.
    const size_t link = page.rfind("](../", at), link_end = page.find(')', link);
    ASSERT_NE(link, std::string::npos);
    const std::string path = page.substr(link + 5, link_end - link - 5);
    const std::string shown = page.substr(begin, end + 1 - begin);
    const std::string file = text_of(path);
    EXPECT_NE(file.find(shown), std::string::npos) << path << " does not have these lines:\n" << shown;
    if (path == "brood/blocks/mingru.cc") {
      EXPECT_EQ(file, shown);
    }
    ++listings;
    at = end;
  }
  EXPECT_EQ(listings, 6);
}

}  // namespace
}  // namespace brood
