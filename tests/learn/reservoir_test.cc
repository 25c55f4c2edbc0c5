#include "brood/learn/reservoir.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "brood/learn/rehearsal.h"
#include "brood/model/checkpoint.h"
#include "tests/fixture/memory_file_system.h"

namespace brood {
namespace {

constexpr int64_t kBlock = Reservoir::kBlock;

// Token i of it is i: a block says where it came from.
std::vector<int32_t> counting(int64_t begin, int64_t end) {
  std::vector<int32_t> tokens;
  for (int64_t i = begin; i < end; ++i) tokens.push_back(int32_t(i));
  return tokens;
}

std::vector<std::vector<int32_t>> held(const Reservoir& reservoir) {
  std::vector<std::vector<int32_t>> blocks;
  for (int64_t i = 0; i < reservoir.blocks(); ++i)
    blocks.emplace_back(reservoir.block(i).begin(), reservoir.block(i).end());
  return blocks;
}

SafetensorsFile parse(const std::string& bytes) {
  return SafetensorsFile::parse(std::as_bytes(std::span(bytes)), "rehearsal");
}

std::string file_of(const Reservoir& reservoir) {
  MemoryFileSystem files;
  reservoir.writer()("rehearsal", "save", files);
  return files.read("rehearsal");
}

// 8 of 64 blocks, 400 times: each of them 50 times, ± 6.6; seven deviations off is chance once in 10^11.
TEST(Reservoir, HoldsAnyBlockOfTheStreamAlike) {
  const auto stream = counting(0, 64 * kBlock);
  std::vector<int> times(64);
  for (uint64_t seed = 0; seed < 400; ++seed) {
    Reservoir reservoir(8 * kBlock + 17, seed);
    reservoir.add(stream);
    ASSERT_EQ(reservoir.blocks(), 8);
    for (const auto& block : held(reservoir)) {
      ASSERT_EQ(block, counting(block[0], block[0] + kBlock));
      ++times[size_t(block[0] / kBlock)];
    }
  }
  EXPECT_GT(*std::min_element(times.begin(), times.end()), 4);
  EXPECT_LT(*std::max_element(times.begin(), times.end()), 96);
}

TEST(Reservoir, HoldsAllAsLongAsThereIsRoom) {
  Reservoir reservoir(8 * kBlock, 1);
  reservoir.add(counting(0, 8 * kBlock + 5));
  std::set<int32_t> begins;
  for (const auto& block : held(reservoir)) begins.insert(block[0]);
  EXPECT_EQ(begins.size(), 8u);
  EXPECT_EQ(reservoir.given(), 8 * kBlock + 5);
}

// However the tokens arrive, whatever is copied, saved and gone on with in between.
TEST(Reservoir, GoesOnAfterASaveAsIfNothingHadBeen) {
  const auto stream = counting(0, 40 * kBlock + 100);
  Reservoir whole(4 * kBlock, 3);
  whole.add(stream);
  Reservoir first(4 * kBlock, 3);
  for (size_t i = 0; i < 21500; i += 43) first.add(std::span(stream).subspan(i, 43));
  const Reservoir copy = first;
  const auto then = held(copy);
  const std::string file = file_of(first);
  first.add(std::span(stream).subspan(21500));
  EXPECT_EQ(held(first), held(whole));
  EXPECT_EQ(held(copy), then) << "what comes later changes a copy";

  Reservoir second(4 * kBlock, 99);  // the seed is the file's
  second.read(parse(file), 1 << 30);
  EXPECT_EQ(held(second), then);
  second.add(std::span(stream).subspan(21500));
  EXPECT_EQ(held(second), held(whole));
  EXPECT_EQ(second.given(), whole.given());

  Reservoir smaller(2 * kBlock, 3), none(0, 3);
  smaller.read(parse(file), 1 << 30);
  EXPECT_EQ(held(smaller), std::vector(then.begin(), then.begin() + 2));
  none.read(parse(file), 1 << 30);
  none.add(stream);
  EXPECT_EQ(none.blocks(), 0);
}

TEST(Reservoir, RefusesFilesThatCannotBe) {
  Reservoir reservoir(4 * kBlock, 3);
  reservoir.add(counting(0, 6 * kBlock + 100));
  const std::string good = file_of(reservoir);
  const auto before = held(reservoir);
  EXPECT_THROW(reservoir.read(parse(good), 6 * kBlock + 99), Error) << "a token beyond the vocabulary";
  const auto with = [&](const std::string& part, const std::string& other) {
    std::string bytes = good;
    const size_t at = bytes.find(part);
    EXPECT_NE(at, std::string::npos) << part;
    return bytes.replace(at, part.size(), other);
  };
  for (const std::string& bytes : {with("\"rehearsal\":\"1\"", "\"rehearsal\":\"2\""),
                                   with("unfinished", "unfinishef"), with("U64", "I64"), with("I32", "F32")})
    EXPECT_THROW(reservoir.read(parse(bytes), 1 << 30), Error);
  // `given`: two numbers of type U64, the second a seed; then the four numbers of blocks.
  uint64_t header = 0;
  std::memcpy(&header, good.data(), 8);
  for (const auto& [place, value] :
       {std::pair<size_t, uint64_t>{0, 5}, {0, uint64_t(1) << 63}, {2, 6}, {2, ~uint64_t(0)}}) {
    std::string bytes = good;
    std::memcpy(bytes.data() + 8 + header + 8 * place, &value, 8);
    EXPECT_THROW(reservoir.read(parse(bytes), 1 << 30), Error) << place << " is " << value;
  }
  std::string twice = good;
  std::memcpy(twice.data() + 8 + header + 16, good.data() + 8 + header + 24, 8);
  EXPECT_THROW(reservoir.read(parse(twice), 1 << 30), Error);
  EXPECT_EQ(held(reservoir), before) << "half of a file was believed";
}

// While all is held, any place alike; later half of the windows are of what is older, and all of those are whole.
TEST(RehearsalMemory, DrawsFromTheDistantPastToo) {
  RehearsalMemory memory(2 * kBlock, 10, 3 * kBlock, 1);
  Random random(2);
  const auto share_of_older = [&](int64_t given) {
    int older = 0;
    for (int i = 0; i < 2000; ++i) {
      std::vector<int32_t> window;
      memory.draw(100, 0, 0, random, window);
      EXPECT_EQ(window, counting(window[0], window[0] + 100));
      EXPECT_LT(window.back(), given);
      older += window[0] < given - 2 * kBlock;
    }
    return older / 2000.0;
  };
  memory.add(counting(0, 2 * kBlock));
  EXPECT_EQ(share_of_older(2 * kBlock), 0);
  memory.add(counting(2 * kBlock, 3 * kBlock));
  EXPECT_NEAR(share_of_older(3 * kBlock), 1 / 3.0, 0.06);
  memory.add(counting(3 * kBlock, 40 * kBlock));
  EXPECT_NEAR(share_of_older(40 * kBlock), 0.5, 0.06);
  std::vector<int32_t> longer;
  memory.draw(kBlock + 1, 0, 0, random, longer);  // longer than a block: of the last tokens alone
  EXPECT_GE(longer[0], 38 * kBlock);
}

}  // namespace
}  // namespace brood
