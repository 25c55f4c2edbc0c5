// What kernels in AMX tiles and AVX-512 BF16 instructions share: which instructions a function may use, and the
// tile registers' configuration. For .cc files of x86-64 Linux; such functions are only reached behind
// bf16_supported() (bf16_tiles.h).
#pragma once

#if defined(__x86_64__) && defined(__linux__)
#define BROOD_BF16_TILES 1
#ifndef __clang__
// GCC's own intrinsics start from a register that they leave undefined on purpose (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <cstdint>

// One attribute for all functions of a kind: they call each other.
#define BROOD_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))
#define BROOD_AMX \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma,amx-tile,amx-bf16")))

// Tile registers must be literals, so code for several of them cannot be a loop.
#define BROOD_IF(condition, statement) \
  if constexpr (condition) statement

namespace brood::kernels {

constexpr int64_t kSide = 16;   // rows of a tile; columns of one of f32
constexpr int64_t kDepth = 32;  // numbers of k in one tile product

// The tile palette: eight tiles of 16 rows of some bytes each. Make it static: GCC's _tile_loadconfig claims to
// read only the first bytes of it, and stores into a local one are optimised away.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

class AmxOn {
 public:
  BROOD_AMX explicit AmxOn(const TileConfig& config) { _tile_loadconfig(&config); }
  BROOD_AMX ~AmxOn() { _tile_release(); }
  AmxOn(const AmxOn&) = delete;
  AmxOn& operator=(const AmxOn&) = delete;
};

}  // namespace brood::kernels

#else
#define BROOD_BF16_TILES 0
#endif
