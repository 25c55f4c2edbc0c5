#include "brood/kernels/machine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "brood/base/error.h"
#include "brood/base/threads.h"

namespace brood::kernels {
namespace {

TEST(Machine, TargetsAreListedAndCanBeForced) {
  const std::vector<std::string> targets = simd_targets();
  ASSERT_FALSE(targets.empty());
  const std::string before = simd_target();
  EXPECT_NE(std::find(targets.begin(), targets.end(), before), targets.end());
  for (const std::string& name : targets) {
    force_simd_target(name);
    EXPECT_EQ(simd_target(), name);
    EXPECT_EQ(simd_targets(), targets);  // forcing one hides no other
    if (!simd_target_has_avx512()) {
      EXPECT_EQ(bf16_kernel(), "widened");
    }
  }
  force_simd_target(before);
}

TEST(Machine, AnUnknownTargetIsRefusedByName) {
  const std::string before = simd_target();
  try {
    force_simd_target("MMX");
    FAIL() << "MMX was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("MMX"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find(before), std::string::npos);
  }
  EXPECT_EQ(simd_target(), before);
}

TEST(Machine, NamesAreTold) {
  EXPECT_FALSE(cpu_name().empty());
  EXPECT_TRUE(product_library().rfind("oneDNN ", 0) == 0 || product_library() == "brood tiles")
      << product_library();
  const std::string bf16 = bf16_kernel();
  EXPECT_TRUE(bf16 == "amx" || bf16 == "avx512_bf16" || bf16 == "widened") << bf16;
}

// Between a slow emulator and any CPU that exists: the numbers have the right unit.
TEST(Machine, LimitsHaveTheRightOrderOfMagnitude) {
  const double bandwidth = measure_read_bandwidth(8 << 20);
  EXPECT_GT(bandwidth, 1e7);
  EXPECT_LT(bandwidth, 1e14);
  const double f32 = measure_f32_flops(), bf16 = measure_bf16_flops();
  EXPECT_GT(f32, 1e7);
  EXPECT_LT(f32, 1e15);
  EXPECT_GT(bf16, 1e7);
  EXPECT_LT(bf16, 1e16);
}

// The wish is read before main, so each child tests one value of it.
TEST(MachineDeathTest, TheEnvironmentChoosesTheTarget) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const std::string last = simd_targets().back();
  ASSERT_EQ(setenv("BROOD_SIMD", last.c_str(), 1), 0);
  EXPECT_EXIT(std::exit(simd_target() == std::getenv("BROOD_SIMD") ? 0 : 1), testing::ExitedWithCode(0), "");
  ASSERT_EQ(setenv("BROOD_SIMD", "MMX", 1), 0);
  EXPECT_EXIT(
      {
        try {
          check_simd_wish();
        } catch (const Error& error) {
          std::fprintf(stderr, "%s\n", error.what());
          std::exit(2);
        }
      },
      testing::ExitedWithCode(2), "BROOD_SIMD: \"MMX\" is not a SIMD target of this machine");
  unsetenv("BROOD_SIMD");
}

}  // namespace
}  // namespace brood::kernels
