#include "brood/base/background.h"

#include <gtest/gtest.h>

#include <atomic>

#include "brood/base/error.h"

namespace brood {
namespace {

TEST(Background, RunsWhatIsPlannedAndTellsWhatWentWrong) {
  std::atomic<int> runs = 0;
  Background background([&] {
    if (++runs == 2) fail("the second run");
  });
  background.wait();
  EXPECT_EQ(runs, 0);
  background.soon(1000);
  background.soon(2000);
  EXPECT_TRUE(background.busy());
  background.wait();  // does not wait so long
  EXPECT_EQ(runs, 1);
  EXPECT_FALSE(background.busy());
  background.check();
  background.soon(0);
  background.wait();
  EXPECT_THROW(background.check(), Error);
  background.check();
  background.soon(0);
  background.wait();
  EXPECT_EQ(runs, 3);
}

TEST(Background, EndsWithAPlanUnfulfilled) {
  std::atomic<int> runs = 0;
  {
    Background background([&] { ++runs; });
    background.soon(1000);
  }
  EXPECT_EQ(runs, 0);
}

}  // namespace
}  // namespace brood
