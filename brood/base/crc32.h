// The cyclic redundancy check of zlib, PNG and Ethernet (polynomial 0x04c11db7, reflected): tells bytes that
// were damaged by chance. Not made to withstand forgers.
#pragma once

#include <cstdint>
#include <span>

namespace brood {

// Of these bytes after those whose check is `crc`; 0: none came before.
uint32_t crc32(std::span<const uint8_t> bytes, uint32_t crc = 0);

}  // namespace brood
