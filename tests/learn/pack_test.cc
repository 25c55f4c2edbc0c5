#include "brood/learn/pack.h"

#include <gtest/gtest.h>

#include "brood/base/crc32.h"
#include "brood/base/error.h"
#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "brood/kernels/machine.h"
#include "brood/learn/pack_network.h"

namespace brood {
namespace {

constexpr const char* kTiny = R"({"architecture":"mamba","d_model":16,"n_layer":1})";

PackRead reading(const std::string& bytes, size_t at_once = 1000) {
  return [&bytes, at_once, at = size_t(0)](std::span<uint8_t> into) mutable {
    const size_t n = std::min({at_once, into.size(), bytes.size() - at});
    std::copy_n(bytes.begin() + int64_t(at), n, into.begin());
    at += n;
    return n;
  };
}

PackWrite writing(std::string& to) {
  return [&to](std::span<const uint8_t> bytes) { to.append(bytes.begin(), bytes.end()); };
}

std::string packed(const std::string& plain, const char* network = nullptr) {
  PackModel model{.log2_memory = 18};
  std::string bytes;
  if (network) {
    PackNetwork with = PackNetwork::anew(network);
    with.describe(model);
    const Packed done = pack(model, with.opinion(), reading(plain), writing(bytes));
    EXPECT_EQ(done.bytes, int64_t(plain.size()));
    EXPECT_EQ(done.packed, int64_t(bytes.size()));
  } else {
    pack(model, nullptr, reading(plain), writing(bytes));
  }
  return bytes;
}

std::string unpacked(const std::string& bytes, size_t at_once = 777) {
  Unpacker unpacker(reading(bytes, at_once), "packed");
  std::string plain;
  if (unpacker.model().network.empty()) {
    unpacker.unpack(nullptr, writing(plain));
  } else {
    PackNetwork with = PackNetwork::anew(unpacker.model().network);
    with.require_same(unpacker.model());
    const Packed done = unpacker.unpack(with.opinion(), writing(plain));
    EXPECT_EQ(done.bytes, int64_t(plain.size()));
    EXPECT_EQ(done.packed, int64_t(bytes.size()));
  }
  return plain;
}

std::string words(size_t bytes) {
  std::string text;
  Random random(5);
  const char* const all[] = {"the ", "sea ", "goes ", "on\n", "and ", "never ", "ends, ", "17;", "18;"};
  while (text.size() < bytes) text += all[random.below(std::size(all))];
  text.resize(bytes);
  return text;
}

std::string noise(size_t bytes) {
  std::string text(bytes, 0);
  Random random(9);
  for (char& c : text) c = char(random.below(256));
  return text;
}

std::string why_refused(const std::string& bytes) {
  try {
    unpacked(bytes);
  } catch (const Error& error) {
    return error.what();
  }
  return "it was not";
}

TEST(Crc32, IsTheOneOfZlib) {
  const std::string digits = "123456789";
  const std::span bytes(reinterpret_cast<const uint8_t*>(digits.data()), digits.size());
  EXPECT_EQ(crc32(bytes), 0xcbf43926u);
  EXPECT_EQ(crc32(bytes.subspan(4), crc32(bytes.first(4))), 0xcbf43926u);
}

TEST(Pack, GivesBackEveryByte) {
  std::string all;
  for (int i = 0; i < 4 * 256; ++i) all += char(i * 7);
  for (const std::string& plain :
       {std::string(), std::string("x"), std::string(1, '\0'), all, words(5000), noise(3000),
        std::string(20000, 'a'), words(400) + noise(400) + words(400)}) {
    EXPECT_EQ(unpacked(packed(plain)), plain);
    if (plain.size() <= 5000) {
      EXPECT_EQ(unpacked(packed(plain, kTiny)), plain);
    }
  }
}

TEST(Pack, GivesBackManyBlocks) {
  const std::string plain = words(200000) + noise(100000);
  const std::string bytes = packed(plain);
  EXPECT_LT(bytes.size(), 150000u);
  EXPECT_TRUE(unpacked(bytes) == plain);
}

TEST(Pack, LearnsWhatItPacks) {
  const std::string plain = words(20000);
  EXPECT_LT(packed(plain).size(), 20000 / 4u) << "9 words of 4 bytes: 0.8 bits a byte at best";
  EXPECT_LT(packed(std::string(20000, 'a')).size(), 60u);
  const std::string twice = plain + plain;
  EXPECT_LT(packed(twice).size(), packed(plain).size() + 100) << "what came once is known";
}

TEST(Pack, NoiseGrowsByLessThanAThousandth) { EXPECT_LE(packed(noise(300000)).size(), 300000 * 1.001); }

TEST(Pack, BytesDoNotDependOnThreadsOrOnHowTheyCome) {
  const std::string plain = words(3000);
  const std::string config = R"({"architecture":"mamba","d_model":96,"n_layer":1})";
  const int before = ThreadPool::instance().size();
  ThreadPool::instance().resize(1);
  const std::string one = packed(plain, config.c_str());
  ThreadPool::instance().resize(3);
  const std::string three = packed(plain, config.c_str());
  EXPECT_EQ(unpacked(one), plain);
  ThreadPool::instance().resize(before);
  EXPECT_TRUE(one == three);
  EXPECT_EQ(unpacked(one, 1), plain);
}

TEST(Pack, RefusesWhatItCannotKnow) {
  const std::string plain = words(500), bytes = packed(plain), with = packed(plain, kTiny);
  EXPECT_EQ(why_refused(""), "unpack: packed is no packed file");
  EXPECT_EQ(why_refused("BRP"), "unpack: packed is no packed file");
  EXPECT_EQ(why_refused(plain), "unpack: packed is no packed file");
  std::string other = bytes;
  other[4] = 9;
  EXPECT_EQ(why_refused(other),
            "unpack: packed is of format 9 and this build knows 2; unpack it with the build that packed it");
  other = bytes;
  other[5] ^= 1;
  EXPECT_NE(why_refused(other).find("computes other numbers"), std::string::npos);
  const size_t arithmetic = with.find(kernels::simd_target());
  ASSERT_NE(arithmetic, std::string::npos);
  other = with;
  other[arithmetic] ^= 1;
  EXPECT_NE(why_refused(other).find("packed with the arithmetic "), std::string::npos);
  other = with;
  const size_t name = with.find("d_model\":16");
  ASSERT_NE(name, std::string::npos);
  other[name + 9] = '2';  // 26
  EXPECT_NE(why_refused(other).find("another model"), std::string::npos);
  other[name + 9] = 'x';
  EXPECT_NE(why_refused(other), "it was not");
}

// Cut anywhere: refused. Any bit turned over: refused, never other bytes.
TEST(Pack, DamageIsFoundOut) {
  const std::string plain = words(120), bytes = packed(plain);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_NE(why_refused(bytes.substr(0, n)), "it was not") << n;
  EXPECT_NE(why_refused(bytes + "x"), "it was not");
  for (size_t i = 4; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = char(damaged[i] ^ (1 << (i % 8)));
    std::string plain_again;
    try {
      plain_again = unpacked(damaged);
    } catch (const Error&) {
      continue;
    }
    EXPECT_EQ(plain_again, plain) << i << ": taken for whole, so it must be";
  }
}

#if defined(__x86_64__)
// The bytes are those of format 2: files packed by an earlier build are still read. When this fails, what is
// predicted has changed, and kFormat (pack.cc) must, too.
TEST(Pack, TheFormatIsWhatItWas) {
  const std::string bytes = packed(words(30000));
  const std::span view(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  EXPECT_EQ(crc32(view), 1506743652u) << bytes.size();
}
#endif

}  // namespace
}  // namespace brood
