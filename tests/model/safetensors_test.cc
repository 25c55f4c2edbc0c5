#include "brood/model/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "brood/base/random.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"

namespace brood {
namespace {

std::string packed(const std::string& header, const std::string& data = "") {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

SafetensorsFile parse(const std::string& bytes) {
  return SafetensorsFile::parse(std::as_bytes(std::span(bytes)), "x.safetensors");
}

void expect_refused(const std::string& bytes, const std::string& part) {
  const std::string message = message_of([&] { parse(bytes); });
  expect_contains(message, "x.safetensors: ");
  expect_contains(message, part);
}

TEST(Safetensors, WritesWhatItReads) {
  ScratchDirectory scratch;
  std::vector<float> a(12), c{1.5f};
  std::vector<Bf16> b;
  for (size_t i = 0; i < 12; ++i) a[i] = float(i) / 7;
  for (int i = 0; i < 5; ++i) b.push_back(to_bf16(float(i)));
  const std::vector<TensorToWrite> tensors = {{"b", Dtype::kBf16, {5}, b.data()},
                                              {"a", Dtype::kF32, {3, 4}, a.data()},
                                              {"empty", Dtype::kF32, {0, 4}, nullptr},
                                              {"scalar", Dtype::kF32, {}, c.data()}};
  write_safetensors(scratch / "f", tensors, {{"steps", "12"}, {"note", "\"ü\n"}});

  const SafetensorsFile file = SafetensorsFile::open(scratch / "f");
  EXPECT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"steps", "12"}, {"note", "\"ü\n"}}));
  EXPECT_EQ(file.find("a")->shape, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(file.find("a")->dtype, "F32");
  EXPECT_EQ(file.find("b")->dtype, "BF16");
  EXPECT_EQ(file.find("empty")->size(), 0);
  EXPECT_EQ(file.find("none"), nullptr);
  for (const auto& [name, tensor] : file.tensors())  // aligned, so that others may map it without copying
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data) % (tensor.dtype == "F32" ? 4 : 2), 0u) << name;
  std::vector<float> read(12);
  file.read_f32("a", read);
  EXPECT_EQ(read, a);
  file.read_f32("a", std::span(read).first(2), 10);
  EXPECT_EQ(read[0], a[10]);
  read.resize(5);
  file.read_f32("b", read);
  EXPECT_EQ(read, (std::vector<float>{0, 1, 2, 3, 4}));
  expect_contains(message_of([&] { file.read_f32("none", read); }), "\"none\" is missing");
  expect_contains(message_of([&] { file.read_f32("b", read, 1); }),
                  "\"b\" has 5 numbers, but 5 are needed from index 1 on");
  EXPECT_THROW(file.read_f32("b", read, -1), Error);
  EXPECT_THROW(file.read_f32("b", read, std::numeric_limits<int64_t>::max()), Error);
}

TEST(Safetensors, SwapsTheLastTwoExtents) {
  ScratchDirectory scratch;
  std::vector<float> memory(2 * 3 * 5);  // [2, 5, 3] in memory, [2, 3, 5] in the file
  for (size_t i = 0; i < memory.size(); ++i) memory[i] = float(i);
  write_safetensors(scratch / "f",
                    std::vector<TensorToWrite>{{"t", Dtype::kF32, {2, 3, 5}, memory.data(), true}}, {});
  std::vector<float> read(memory.size());
  const SafetensorsFile file = SafetensorsFile::open(scratch / "f");
  file.read_f32("t", read);
  for (size_t m = 0; m < 2; ++m)
    for (size_t r = 0; r < 3; ++r)
      for (size_t c = 0; c < 5; ++c) EXPECT_EQ(read[(m * 3 + r) * 5 + c], memory[(m * 5 + c) * 3 + r]);
}

// Every half there is, against the definition (IEEE 754 §3.4): sign · 2^(e−15) · (1 + f/1024), subnormal
// 2^−14 · f/1024.
TEST(Safetensors, ReadsEveryHalf) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const int exponent = int(h >> 10) & 31, fraction = int(h) & 1023;
    const auto half = uint16_t(h);
    const std::string bytes = packed(R"({"h":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})",
                                     std::string(reinterpret_cast<const char*>(&half), 2));
    const SafetensorsFile file = parse(bytes);
    float read = 0;
    if (exponent == 31) {
      EXPECT_THROW(file.read_f32("h", {&read, 1}), Error);
      continue;
    }
    file.read_f32("h", {&read, 1});
    double wanted =
        exponent ? std::ldexp(1 + fraction / 1024.0, exponent - 15) : std::ldexp(fraction / 1024.0, -14);
    if (h & 0x8000) wanted = -wanted;
    ASSERT_EQ(double(read), wanted) << h;
    ASSERT_EQ(std::signbit(read), (h & 0x8000) != 0);
  }
}

TEST(Safetensors, ReadsDoublesAndRefusesWhatIsNotFinite) {
  const auto doubles = [](std::vector<double> x) {
    const std::string header = fmt::format(R"({{"d":{{"dtype":"F64","shape":[{}],"data_offsets":[0,{}]}}}})",
                                           x.size(), 8 * x.size());
    return packed(header, std::string(reinterpret_cast<const char*>(x.data()), 8 * x.size()));
  };
  std::vector<float> read(2);
  const std::string good = doubles({0.1, -3e38});
  parse(good).read_f32("d", read);
  EXPECT_EQ(read, (std::vector<float>{0.1f, -3e38f}));
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL, 1e39}) {
    const std::string bytes = doubles({1, bad});
    expect_contains(message_of([&] { parse(bytes).read_f32("d", read); }),
                    "\"d\" holds a NaN or an infinity");
  }
  const std::string integers =
      packed(R"({"i":{"dtype":"I64","shape":[],"data_offsets":[0,8]}})", std::string(8, 0));
  expect_contains(message_of([&] { parse(integers).read_f32("i", std::span(read).first(1)); }),
                  "is of type I64");
}

TEST(Safetensors, RefusesFilesThatLie) {
  expect_refused("", "0 bytes are too few");
  expect_refused("1234567", "7 bytes are too few");
  expect_refused(std::string("\0\0\0\0\0\0\0\x10", 8),
                 "cut short or not a safetensors file");  // claims 2^60 bytes
  expect_refused(std::string(8, '\xff'), "cut short");
  expect_refused(packed("{}").substr(0, 9), "cut short");
  expect_refused(packed(""), "not a safetensors file");
  expect_refused(packed("[]"), "not a safetensors file");
  expect_refused(packed("{"), "is not JSON");
  expect_refused(packed("{} x"), "is not JSON");
  expect_refused(packed("{\"a\xff\":1}"), "is not JSON");
  expect_refused(packed("{}", "x"), "1 bytes after the last tensor");
  EXPECT_TRUE(parse(packed("{}   ")).tensors().empty());
}

TEST(Safetensors, RefusesEntriesThatLie) {
  const auto entry = [](const std::string& fields) { return packed("{\"t\":{" + fields + "}}", "12345678"); };
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  EXPECT_EQ(parse(entry(good)).find("t")->size(), 2);
  expect_refused(entry(R"("dtype":"F32","shape":[2])"), "lacks one of");
  expect_refused(entry(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), "type \"F33\"");
  expect_refused(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,9])"), "cut short or damaged");
  expect_refused(entry(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), "damaged");
  expect_refused(entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), "do not need");
  expect_refused(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,9])"), "more than two");
  expect_refused(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), "needs two");
  expect_refused(entry(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), "a negative number");
  expect_refused(entry(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), "a fraction");
  expect_refused(entry(R"("dtype":"F32","shape":[[2]],"data_offsets":[0,8])"), "an array");
  expect_refused(entry(R"("dtype":["F32"],"shape":[2],"data_offsets":[0,8])"), "an array");
  expect_refused(entry(R"("dtype":1,"shape":[2],"data_offsets":[0,8])"), "a number");
  expect_refused(entry(R"("dtype":"F32","shape":null,"data_offsets":[0,8])"), "null");
  expect_refused(entry(R"("dtype":"F32","shape":"2","data_offsets":[0,8])"), "a text");
  expect_refused(entry(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])"),
                 "more than 8 extents");
  expect_refused(entry(good + R"(,"dtype":"F32")"), "\"dtype\" twice");
  expect_refused(entry(good + R"(,"other":1)"), "\"other\"");
  // 2^62 · 2 · 4 bytes wraps to 0 in 64 bits.
  expect_refused(entry(R"("dtype":"F32","shape":[4611686018427387904,2],"data_offsets":[0,0])"),
                 "do not need");
  expect_refused(entry(R"("dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0])"),
                 "impossible extent");
}

TEST(Safetensors, RefusesOverlapsGapsAndStrangeStructure) {
  const auto two = [](const std::string& first, const std::string& second) {
    return packed(fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                              R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                              first, second),
                  "12345678");
  };
  EXPECT_EQ(parse(two("[4,8]", "[0,4]")).tensors().size(), 2u);
  expect_refused(two("[0,4]", "[0,4]"), "overlap or leave gaps");
  expect_refused(two("[0,4]", "[3,7]"), "overlap or leave gaps");
  expect_refused(two("[1,5]", "[4,8]"), "overlap or leave gaps");
  expect_refused(packed(R"({"a":1})"), "a number");
  expect_refused(packed(R"({"a":{"dtype":{}}})"), "an object");
  expect_refused(packed(R"({"__metadata__":{"a":1}})"), "a number");
  expect_refused(packed(R"({"__metadata__":{"a":"1","a":"2"}})"), "twice");
  expect_refused(packed(R"({"__metadata__":{},"__metadata__":{}})"), "twice");
  expect_refused(packed(R"({"__metadata__":[]})"), "an array");
  const std::string entry = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  expect_refused(packed("{" + entry + "," + entry + "}"), "twice");
}

// Whatever byte of a good file is changed, it is read or refused; never more.
TEST(Safetensors, SurvivesEveryChangedByteAndEveryCut) {
  const std::string good =
      packed(R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})",
             std::string(8, '\x3f'));
  parse(good);
  for (size_t i = 0; i < good.size(); ++i) {
    EXPECT_THROW(parse(good.substr(0, i)), Error);
    for (int value = 0; value < 256; ++value) {
      std::string changed = good;
      changed[i] = char(value);
      try {
        parse(changed);
      } catch (const Error&) {
      }
    }
  }
}

}  // namespace
}  // namespace brood
