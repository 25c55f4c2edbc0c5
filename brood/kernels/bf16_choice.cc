// Which bf16 kernel runs: what the CPU has, what the system grants, what is fastest.
#include <atomic>

#include "brood/base/error.h"
#include "brood/kernels/bf16_tiles.h"
#include "brood/kernels/machine.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace brood::kernels {
namespace {

constexpr int kForcedNone = -1;
std::atomic<int> forced{kForcedNone};

struct Cpu {
  bool intel = false, avx512_bf16 = false, amx = false;
};

#if defined(__x86_64__) && defined(__linux__)

Cpu read_cpu() {
  Cpu cpu;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return cpu;
  cpu.intel = b == 0x756e6547 && d == 0x49656e69 && c == 0x6c65746e;  // "GenuineIntel"
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return cpu;  // OSXSAVE
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return cpu;
  const bool avx512 =
      (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1) && (low & 0xe6) == 0xe6;
  const bool amx = (d >> 22 & 1) && (d >> 24 & 1) && (low >> 17 & 3) == 3;
  if (!avx512 || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) return cpu;
  cpu.avx512_bf16 = a >> 5 & 1;
  // Linux hands the 8 KB of tile registers out on request, once for the whole process.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  cpu.amx = amx && cpu.avx512_bf16 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return cpu;
}

#else

Cpu read_cpu() { return {}; }

#endif

const Cpu& cpu() {
  static const Cpu known = read_cpu();
  return known;
}

}  // namespace

void force_bf16_kernel(Bf16Kernel kernel) {
  BROOD_ASSERT(bf16_supported(kernel));
  forced.store(int(kernel));
}

void unforce_bf16_kernel() { forced.store(kForcedNone); }

bool bf16_supported(Bf16Kernel kernel) {
  if (kernel == Bf16Kernel::kAmx) return cpu().amx;
  if (kernel == Bf16Kernel::kAvx512) return cpu().avx512_bf16;
  return true;
}

Bf16Kernel bf16_choice() {
  const int wish = forced.load(std::memory_order_relaxed);
  if (wish != kForcedNone) return Bf16Kernel(wish);
  if (!simd_target_has_avx512()) return Bf16Kernel::kWidened;
  if (cpu().amx) return Bf16Kernel::kAmx;
  // Intel's cores start one VDPBF16PS every other cycle but two f32 multiply-adds in each: widening is twice
  // as fast.
  return cpu().avx512_bf16 && !cpu().intel ? Bf16Kernel::kAvx512 : Bf16Kernel::kWidened;
}

}  // namespace brood::kernels
