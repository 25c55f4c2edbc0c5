#include "brood/base/crc32.h"

#include <array>
#include <cstddef>

namespace brood {

namespace {

constexpr size_t kSlices = 8;  // bytes that are looked up at once

// of[k][byte]: the check of `byte` and k zeros behind it.
constexpr std::array<std::array<uint32_t, 256>, kSlices> tables() {
  std::array<std::array<uint32_t, 256>, kSlices> of{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ (rest & 1 ? 0xedb88320u : 0);
    of[0][byte] = rest;
  }
  for (size_t k = 1; k < kSlices; ++k)
    for (size_t byte = 0; byte < 256; ++byte)
      of[k][byte] = (of[k - 1][byte] >> 8) ^ of[0][of[k - 1][byte] & 255];
  return of;
}

constexpr auto kTables = tables();

}  // namespace

uint32_t crc32(std::span<const uint8_t> bytes, uint32_t crc) {
  crc = ~crc;
  while (bytes.size() >= kSlices) {
    for (size_t i = 0; i < 4; ++i) crc ^= uint32_t(bytes[i]) << (8 * i);
    uint32_t next = 0;
    for (size_t i = 0; i < 4; ++i) {
      next ^= kTables[7 - i][(crc >> (8 * i)) & 255];
      next ^= kTables[3 - i][bytes[4 + i]];
    }
    crc = next;
    bytes = bytes.subspan(kSlices);
  }
  for (const uint8_t byte : bytes) crc = (crc >> 8) ^ kTables[0][(crc ^ byte) & 255];
  return ~crc;
}

}  // namespace brood
