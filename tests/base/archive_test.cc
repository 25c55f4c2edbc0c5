#include "brood/base/archive.h"

#include <gtest/gtest.h>

#include <limits>

#include "brood/base/error.h"

namespace brood {
namespace {

struct Thing {
  int64_t count = 3;
  double share = 0.25;
  std::vector<double> fixed{1, 2, 3}, list{4, 5};
  std::string name = "a name";
  void archive(Archive& archive) {
    archive.whole(count, 0, 10);
    archive.number(share);
    archive.numbers(fixed);
    archive.list(list, 4);
    archive.text(name, 8);
  }
};

std::vector<std::byte> written(Thing thing) {
  Archive archive;
  thing.archive(archive);
  return archive.take();
}

void read(std::span<const std::byte> bytes, Thing& into) {
  Archive archive(bytes, "thing");
  into.archive(archive);
  archive.end();
}

TEST(Archive, ReadsWhatItWrote) {
  Thing thing, again;
  thing.count = 10;
  thing.list = {7};
  thing.name = "";
  read(written(thing), again);
  EXPECT_EQ(again.count, 10);
  EXPECT_EQ(again.list, thing.list);
  EXPECT_EQ(again.name, "");
  EXPECT_EQ(written(again), written(thing));
}

TEST(Archive, BelievesNothing) {
  Thing into;
  const auto bytes = written({});
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_THROW(read(std::span(bytes).first(n), into), Error) << n;
  auto longer = bytes;
  longer.push_back(std::byte(0));
  EXPECT_THROW(read(longer, into), Error);
  Thing wrong;
  wrong.count = 11;
  EXPECT_THROW(read(written(wrong), into), Error);
  wrong = {};
  wrong.list.resize(5);
  EXPECT_THROW(read(written(wrong), into), Error);
  wrong = {};
  wrong.name = "longer than it may be";
  EXPECT_THROW(read(written(wrong), into), Error);
  wrong = {};
  wrong.fixed[1] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(read(written(wrong), into), Error);
}

}  // namespace
}  // namespace brood
