// Tile products that touch no memory: what the machine could do.
#include "brood/kernels/amx.h"
#include "brood/kernels/bf16_tiles.h"

namespace brood::kernels {
#if BROOD_BF16_TILES

namespace {

const TileConfig kTileConfig;

BROOD_AMX void amx_burst(int64_t steps) {
  alignas(64) static const Bf16 zeros[kSide * kDepth] = {};
  const AmxOn on(kTileConfig);
  _tile_loadd(4, zeros, 64);
  _tile_loadd(5, zeros, 64);
  for (int64_t i = 0; i < steps; ++i) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
}

BROOD_AVX512 void avx512_burst(int64_t steps) {
  __m512 s[16];
  for (auto& v : s) v = _mm512_setzero_ps();
  const __m512bh one = __m512bh(_mm512_set1_epi32(0x3f803f80));
  for (int64_t i = 0; i < steps; ++i) {
    for (auto& v : s) {
      v = _mm512_dpbf16_ps(v, one, one);
      asm volatile("" : "+v"(v));
    }
  }
}

}  // namespace

double bf16_burst(Bf16Kernel kernel, int64_t steps) {
  if (kernel == Bf16Kernel::kAmx) {
    amx_burst(steps);
    return double(steps) * 4 * 2 * kSide * kSide * kDepth;
  }
  avx512_burst(steps);
  return double(steps) * 16 * 2 * 32;
}

#else

double bf16_burst(Bf16Kernel, int64_t) { return 0.0; }

#endif  // BROOD_BF16_TILES
}  // namespace brood::kernels
