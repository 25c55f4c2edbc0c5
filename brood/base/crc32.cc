#include "brood/base/crc32.h"

#include <array>
#include <cstddef>

namespace brood {

namespace {

constexpr std::array<uint32_t, 256> table() {
  std::array<uint32_t, 256> of{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ (rest & 1 ? 0xedb88320u : 0);
    of[byte] = rest;
  }
  return of;
}

constexpr auto kTable = table();

}  // namespace

uint32_t crc32(std::span<const uint8_t> bytes, uint32_t crc) {
  crc = ~crc;
  for (const uint8_t byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ byte) & 255];
  return ~crc;
}

}  // namespace brood
