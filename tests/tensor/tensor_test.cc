#include "brood/tensor/tensor.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace brood {
namespace {

int64_t resident_bytes() {
  int64_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

TEST(Tensor, ZerosAreZeroAndAligned) {
  // Around the size from which memory comes straight from the system, and again where others have been
  // before.
  for (int round = 0; round < 2; ++round) {
    for (const int64_t n : {1, 17, (1 << 19) - 1, 1 << 19, (1 << 19) + 1, (5 << 19) + 3}) {
      Tensor t = Tensor::zeros({n});
      EXPECT_EQ(reinterpret_cast<uintptr_t>(t.data()) % 64, 0u);
      EXPECT_TRUE(std::all_of(t.f32(), t.f32() + n, [](float x) { return x == 0; })) << n;
      std::fill_n(t.f32(), n, 1.0f);
      const Tensor copy = t.clone();
      t = Tensor();
      EXPECT_EQ(copy.f32()[n - 1], 1.0f);
    }
  }
}

TEST(Tensor, LargeZerosTakeNoMemoryBeforeTheyAreWritten) {
  constexpr int64_t kSize = int64_t(1) << 30;  // bytes
  const int64_t before = resident_bytes();
  Tensor t = Tensor::zeros({kSize / int64_t(sizeof(float))});
  t.f32()[t.size() / 2] = 1;
  EXPECT_LT(resident_bytes() - before, kSize / 8);
}

}  // namespace
}  // namespace brood
