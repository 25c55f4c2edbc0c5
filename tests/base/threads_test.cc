#include "brood/base/threads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "brood/base/error.h"
#include "brood/base/float_mode.h"

namespace brood {
namespace {

// Every test runs with each of these numbers of threads; more than the machine has is part of the point.
constexpr int kSizes[] = {1, 2, 3, 8};

class Threads : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    before_ = ThreadPool::instance().size();
    ThreadPool::instance().resize(GetParam());
  }
  void TearDown() override { ThreadPool::instance().resize(before_); }

 private:
  int before_ = 1;
};

TEST_P(Threads, EveryTaskRunsExactlyOnce) {
  ASSERT_EQ(ThreadPool::instance().size(), GetParam());
  for (int64_t n = 0; n < 70; ++n) {
    std::vector<int> runs(size_t(n), 0);
    parallel(n, [&](int64_t i) { ++runs[size_t(i)]; });
    EXPECT_EQ(runs, std::vector<int>(size_t(n), 1)) << n;
  }
}

TEST_P(Threads, RangesCoverEveryTaskOnceInNoMoreRunsThanThreads) {
  for (int64_t n = 0; n < 70; ++n) {
    std::vector<int> runs(size_t(n), 0);
    std::atomic<int> ranges{0};
    parallel_ranges(n, [&](int64_t begin, int64_t end) {
      EXPECT_LT(begin, end);
      ++ranges;
      for (int64_t i = begin; i < end; ++i) ++runs[size_t(i)];
    });
    EXPECT_EQ(runs, std::vector<int>(size_t(n), 1)) << n;
    EXPECT_EQ(ranges.load(), int(std::min<int64_t>(n, GetParam()))) << n;
  }
}

TEST_P(Threads, ManyRegionsBackToBackAndAfterSleeping) {
  std::vector<int64_t> sums(16, 0);
  const int64_t regions = 4000;
  for (int64_t r = 0; r < regions; ++r) {
    parallel(int64_t(sums.size()), [&](int64_t i) { sums[size_t(i)] += r; });
    // Longer than workers spin: the next region has to wake them.
    if (r % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  for (const int64_t sum : sums) EXPECT_EQ(sum, regions * (regions - 1) / 2);
}

TEST_P(Threads, SlowTasksMakeTheCallerSleepAndWakeAgain) {
  std::atomic<int> runs{0};
  for (int r = 0; r < 5; ++r) {
    parallel(int64_t(GetParam()), [&](int64_t i) {
      if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++runs;
    });
    EXPECT_EQ(runs.load(), (r + 1) * GetParam());
  }
}

TEST_P(Threads, TasksOfOneThreadAreContiguous) {
  const int64_t n = 1000;
  std::vector<std::thread::id> ran_by(n);
  parallel(n, [&](int64_t i) {
    ran_by[size_t(i)] = std::this_thread::get_id();
    if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  });
  int64_t borders = 0;
  for (int64_t i = 1; i < n; ++i) {
    if (ran_by[size_t(i)] == ran_by[size_t(i - 1)]) continue;
    ++borders;
    bool at_a_border = false;
    for (int64_t part = 1; part < GetParam(); ++part) at_a_border |= i == n * part / GetParam();
    EXPECT_TRUE(at_a_border) << i;
  }
  EXPECT_LT(borders, GetParam());
}

TEST_P(Threads, TasksRunInTheCallersFloatMode) {
  volatile float tiny = 1e-30f;
  std::vector<float> products(64);
  const auto multiply = [&](int64_t i) { products[size_t(i)] = tiny * 1e-10f; };
  const float denormal = tiny * 1e-10f;
  ASSERT_GT(denormal, 0.0f);
  for (int r = 0; r < 20; ++r) {
    {
      const FlushDenormals flush;
      parallel(64, multiply);
      EXPECT_EQ(products, std::vector<float>(64, kFlushDenormals != 0 ? 0.0f : denormal));
    }
    parallel(64, multiply);
    EXPECT_EQ(products, std::vector<float>(64, denormal));
  }
}

TEST_P(Threads, NestedRegionsRunInlineOnTheSameThread) {
  const int64_t outer = 12, inner = 9;
  std::vector<int> runs(size_t(outer * inner), 0);
  std::atomic<int> strangers{0};
  parallel(outer, [&](int64_t i) {
    const auto me = std::this_thread::get_id();
    parallel(inner, [&](int64_t j) {
      if (GetParam() > 1 && std::this_thread::get_id() != me) ++strangers;
      ++runs[size_t(i * inner + j)];
    });
  });
  EXPECT_EQ(strangers.load(), 0);
  EXPECT_EQ(runs, std::vector<int>(size_t(outer * inner), 1));
}

TEST_P(Threads, TheFirstExceptionInTaskOrderIsRethrown) {
  const int64_t n = 64;
  for (int64_t thrower : {int64_t(0), n / 2, n - 1}) {
    std::string caught;
    try {
      parallel(n, [&](int64_t i) {
        if (i >= thrower) throw std::runtime_error(std::to_string(i));
      });
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
    EXPECT_EQ(caught, std::to_string(thrower));
    std::atomic<int> runs{0};  // and the pool works on
    parallel(n, [&](int64_t) { ++runs; });
    EXPECT_EQ(runs.load(), n);
  }
}

TEST_P(Threads, RegionsFromTwoOutsideThreadsTakeTurns) {
  std::atomic<int> errors{0};
  const auto outside = [&] {
    std::vector<int64_t> count(33, 0);
    for (int64_t r = 0; r < 500; ++r) parallel(int64_t(count.size()), [&](int64_t i) { ++count[size_t(i)]; });
    for (const int64_t c : count) errors += c != 500;
  };
  std::thread one(outside), two(outside);
  one.join();
  two.join();
  EXPECT_EQ(errors.load(), 0);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Threads, ::testing::ValuesIn(kSizes));

TEST(ThreadPoolSize, WorkIsReallySharedOut) {
  const int before = ThreadPool::instance().size();
  ThreadPool::instance().resize(3);
  std::vector<std::thread::id> ran_by(3);
  std::barrier together(3);  // nobody goes on before three have come
  parallel(3, [&](int64_t i) {
    ran_by[size_t(i)] = std::this_thread::get_id();
    together.arrive_and_wait();
  });
  EXPECT_EQ(std::set<std::thread::id>(ran_by.begin(), ran_by.end()).size(), 3u);
  ThreadPool::instance().resize(before);
}

TEST(ThreadPoolSize, ResizeManyTimes) {
  const int before = ThreadPool::instance().size();
  for (int r = 0; r < 40; ++r) {
    const int size = 1 + r * 7 % 5;
    ThreadPool::instance().resize(size);
    EXPECT_EQ(ThreadPool::instance().size(), size);
    std::atomic<int64_t> sum{0};
    parallel(100, [&](int64_t i) { sum += i; });
    EXPECT_EQ(sum.load(), 4950);
  }
  ThreadPool::instance().resize(before);
}

TEST(ThreadPoolSize, RefusesNonsense) {
  const int before = ThreadPool::instance().size();
  EXPECT_THROW(ThreadPool::instance().resize(0), Error);
  EXPECT_THROW(ThreadPool::instance().resize(-3), Error);
  EXPECT_THROW(ThreadPool::instance().resize(1 << 20), Error);
  EXPECT_EQ(ThreadPool::instance().size(), before);
}

}  // namespace
}  // namespace brood
