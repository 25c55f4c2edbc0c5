// Any bytes as a packed file: unpacked, or refused with an Error. The fuzzer's bytes stand behind a header that
// this build accepts, so that it gets to the blocks; without it nothing would.
#include <cstddef>
#include <cstdint>
#include <string>

#include "brood/base/error.h"
#include "brood/learn/pack.h"

namespace {

using namespace brood;

PackRead reading(std::span<const uint8_t> bytes) {
  return [bytes](std::span<uint8_t> into) mutable {
    const size_t n = std::min(into.size(), bytes.size());
    std::copy_n(bytes.begin(), n, into.begin());
    bytes = bytes.subspan(n);
    return n;
  };
}

std::string unpacked(std::span<const uint8_t> bytes) {
  std::string plain;
  Unpacker unpacker(reading(bytes), "input");
  // The rest asks for memory and models, which is its right.
  if (unpacker.model().log2_memory > 20 || !unpacker.model().network.empty()) return plain;
  unpacker.unpack(
      nullptr, [&](std::span<const uint8_t> block) { plain.append(block.begin(), block.end()); },
      [](const Packed& done) {
        if (done.bytes >= 1024)
          fail("a few bytes may stand for many, which takes time and shows nothing new");
      });
  return plain;
}

std::string packed(std::span<const uint8_t> plain) {
  std::string bytes;
  pack({.log2_memory = kLeastPackMemory}, nullptr, reading(plain),
       [&](std::span<const uint8_t> some) { bytes.append(some.begin(), some.end()); });
  return bytes;
}

constexpr size_t kHeader = 11;  // up to the first block

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string empty = packed({});
  if (size > 512) return 0;
  try {
    unpacked({data, size});
  } catch (const Error&) {
  }
  std::vector<uint8_t> headed(empty.begin(), empty.begin() + kHeader);
  headed.insert(headed.end(), data, data + size);
  try {
    unpacked(headed);
  } catch (const Error&) {
  }
  const std::string there = packed({data, size});
  const std::string back = unpacked({reinterpret_cast<const uint8_t*>(there.data()), there.size()});
  BROOD_ASSERT(back == std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
