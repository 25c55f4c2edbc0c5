#include "brood/tensor/arena.h"

#include <gtest/gtest.h>

#include <cstring>

namespace brood {
namespace {

TEST(Arena, AlignsCountsAndKeepsItsMemory) {
  Arena arena;
  for (int round = 0; round < 3; ++round) {
    for (size_t bytes : {1, 63, 64, 65, 5 << 20}) {
      void* p = arena.allocate(bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
      std::memset(p, 0xee, bytes);
    }
    EXPECT_EQ(arena.used(), 64u + 64 + 64 + 128 + (5 << 20));
    const size_t capacity = arena.capacity();
    arena.reset();
    EXPECT_EQ(arena.used(), 0u);
    EXPECT_EQ(arena.capacity(), capacity);
  }
}

TEST(Arena, ReleaseGivesTheSameMemoryAgainAcrossBlocks) {
  Arena arena;
  void* first = arena.allocate(100);
  std::memset(first, 1, 100);
  const Arena::Mark mark = arena.mark();
  size_t capacity = 0;
  for (int round = 0; round < 5; ++round) {
    // Larger than one block: the second and third go to blocks of their own.
    for (int i = 0; i < 3; ++i) std::memset(arena.allocate(3 << 20), 2, 3 << 20);
    EXPECT_EQ(arena.used(), 128u + 3 * (3 << 20));
    if (round == 0) capacity = arena.capacity();
    EXPECT_EQ(arena.capacity(), capacity);
    arena.release(mark);
    EXPECT_EQ(arena.used(), 128u);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(static_cast<char*>(first)[i], 1);
  }
  arena.reset();
  arena.allocate(3 * (3 << 20));
  EXPECT_EQ(arena.capacity(), capacity);
}

TEST(Arena, ZerosAreZero) {
  Arena arena;
  std::memset(arena.allocate(4096), 0xff, 4096);
  arena.reset();
  const float* x = arena.zeros(1000);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(x[i], 0.0f);
}

}  // namespace
}  // namespace brood
