// What this machine is and what it can do: the yardsticks that every speed is divided by.
#pragma once

#include <string>
#include <vector>

namespace brood::kernels {

std::string simd_target();                // the Highway target that runs, e.g. "AVX3"
std::vector<std::string> simd_targets();  // every target compiled in and supported here, best first
bool simd_target_has_avx512();            // whether the target that runs is an AVX-512 one
// Makes every kernel run on one of simd_targets(); throws Error for another name. The environment variable
// BROOD_SIMD does the same before main; check_simd_wish() throws Error when it names no target of this
// machine.
void force_simd_target(const std::string& name);
void check_simd_wish();

std::string product_library();  // e.g. "oneDNN 2.6.3 (AVX512_CORE_AMX)" or "brood tiles"
std::string bf16_kernel();      // "amx", "avx512_bf16" or "widened"
std::string cpu_name();         // from /proc/cpuinfo, "unknown" elsewhere

// Measured limits with the pool's present number of threads. Each takes about a quarter of a second and
// reports the best of several repeats, after warm-up.
double measure_read_bandwidth(int64_t bytes = int64_t(1) << 30);  // bytes/s, reading a buffer of that size
double measure_f32_flops();   // FLOP/s of fused multiply-adds in registers, an FMA counts 2
double measure_bf16_flops();  // FLOP/s of the bf16 instruction used by matmul (AMX, vdpbf16ps), 2 per product

}  // namespace brood::kernels
