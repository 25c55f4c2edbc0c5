#include "brood/kernels/machine.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

#include "brood/base/error.h"
#include "brood/base/threads.h"
#include "brood/kernels/bf16_tiles.h"
#include "brood/kernels/dense.h"
#include "brood/tensor/tensor.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/machine.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

int64_t target() { return HWY_TARGET; }

// Adds up n floats, a multiple of 256: eight streams of vectors, so that loads are all that takes time.
float read_floats(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (int64_t i = 0; i < n; i += 4 * lanes) {
    a = hn::Add(a, hn::LoadU(d, x + i));
    b = hn::Add(b, hn::LoadU(d, x + i + lanes));
    c = hn::Add(c, hn::LoadU(d, x + i + 2 * lanes));
    e = hn::Add(e, hn::LoadU(d, x + i + 3 * lanes));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
}

// Twelve chains of multiply-adds: more than latency times throughput of any core, fewer than AVX2's
// registers.
float multiply_adds(int64_t steps, float factor) {
  const hn::ScalableTag<float> d;
  const auto f = hn::Set(d, factor);
  const auto first = hn::Iota(d, 1.0f), one = hn::Set(d, 1.0f);
  auto a = first, b = hn::Add(a, one), c = hn::Add(b, one), e = hn::Add(c, one), g = hn::Add(e, one),
       h = hn::Add(g, one), i = hn::Add(h, one), j = hn::Add(i, one), k = hn::Add(j, one),
       l = hn::Add(k, one), m = hn::Add(l, one), n = hn::Add(m, one);
  for (int64_t s = 0; s < steps; ++s) {
    a = hn::MulAdd(a, f, f), b = hn::MulAdd(b, f, f), c = hn::MulAdd(c, f, f), e = hn::MulAdd(e, f, f);
    g = hn::MulAdd(g, f, f), h = hn::MulAdd(h, f, f), i = hn::MulAdd(i, f, f), j = hn::MulAdd(j, f, f);
    k = hn::MulAdd(k, f, f), l = hn::MulAdd(l, f, f), m = hn::MulAdd(m, f, f), n = hn::MulAdd(n, f, f);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)), hn::Add(hn::Add(g, h), hn::Add(i, j)));
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum, hn::Add(hn::Add(k, l), hn::Add(m, n)))));
}

int64_t float_lanes() { return int64_t(hn::Lanes(hn::ScalableTag<float>())); }

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(target);
HWY_EXPORT(read_floats);
HWY_EXPORT(multiply_adds);
HWY_EXPORT(float_lanes);

namespace {

std::vector<int64_t> find_targets() {
  std::vector<int64_t> targets = hwy::SupportedAndGeneratedTargets();
  std::sort(targets.begin(), targets.end());  // Highway numbers better targets lower
  return targets;
}

const std::vector<int64_t>& targets() {
  static const std::vector<int64_t> known = find_targets();
  return known;
}

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

void force(const std::string& name, const char* context) {
  for (const int64_t candidate : targets()) {
    if (name != hwy::TargetName(candidate)) continue;
    hwy::SetSupportedTargetsForTest(candidate);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    return;
  }
  fail("{}: \"{}\" is not a SIMD target of this machine, which has {}", context, name, list(simd_targets()));
}

const char* wished_target() {
  const char* wish = std::getenv("BROOD_SIMD");
  return wish != nullptr && *wish != '\0' ? wish : nullptr;
}

// Obeyed before main, so that every kernel runs as wished from the first; a wrong name is reported by the
// first product.
const bool wish_obeyed = [] {
  const char* wish = wished_target();
  if (wish == nullptr) return true;
  try {
    force(wish, "BROOD_SIMD");
    return true;
  } catch (const Error&) {
    return false;
  }
}();

constexpr double kMeasuringSeconds = 0.25;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best rate of `amount` per run over a quarter of a second; the first run warms up.
template <class Run>
double best_rate(double amount, Run&& run) {
  run();
  double best = 0.0;
  const double end = seconds() + kMeasuringSeconds;
  do {
    const double start = seconds();
    run();
    best = std::max(best, amount / (seconds() - start));
  } while (seconds() < end);
  return best;
}

}  // namespace

void check_simd_wish() {
  if (!wish_obeyed) force(wished_target(), "BROOD_SIMD");
}

std::string simd_target() {
  check_simd_wish();
  return hwy::TargetName(HWY_DYNAMIC_DISPATCH(target)());
}

bool simd_target_has_avx512() {
#if HWY_ARCH_X86
  return HWY_DYNAMIC_DISPATCH(target)() <= HWY_AVX3;
#else
  return false;
#endif
}

std::vector<std::string> simd_targets() {
  std::vector<std::string> names;
  for (const int64_t known : targets()) names.push_back(hwy::TargetName(known));
  return names;
}

void force_simd_target(const std::string& name) { force(name, "SIMD target"); }

std::string product_library() { return dense_library(); }

std::string bf16_kernel() {
  switch (bf16_choice()) {
    case Bf16Kernel::kAmx:
      return "amx";
    case Bf16Kernel::kAvx512:
      return "avx512_bf16";
    case Bf16Kernel::kWidened:
      break;
  }
  return "widened";
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line)) {
    const size_t colon = line.find(':');
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos && colon + 2 < line.size())
      return line.substr(colon + 2);
  }
  return "unknown";
}

double measure_read_bandwidth(int64_t bytes) {
  // Whole pieces of 64 KB, the least that is worth a task.
  constexpr int64_t kPiece = 16 << 10;  // floats
  const int64_t pieces = std::max<int64_t>(1, bytes / int64_t(kPiece * sizeof(float)));
  Tensor memory = Tensor::uninitialized({pieces, kPiece});
  float* x = memory.f32();
  // Written by the thread that will read it, so that on machines with several memories it lies near.
  parallel(pieces, [&](int64_t i) { std::fill_n(x + i * kPiece, kPiece, 1.0f); });
  std::vector<float> sums(static_cast<size_t>(pieces));
  const auto run = [&] {
    parallel(pieces,
             [&](int64_t i) { sums[size_t(i)] = HWY_DYNAMIC_DISPATCH(read_floats)(x + i * kPiece, kPiece); });
  };
  const double rate = best_rate(double(memory.bytes()), run);
  for (const float sum : sums) BROOD_ASSERT(sum == float(kPiece));
  return rate;
}

double measure_f32_flops() {
  constexpr int64_t kSteps = 200'000;
  const int64_t threads = ThreadPool::instance().size();
  std::vector<float> results(static_cast<size_t>(threads));
  const double flops = double(threads * kSteps * 12 * 2 * HWY_DYNAMIC_DISPATCH(float_lanes)());
  const double rate = best_rate(flops, [&] {
    // The chains tend to f / (1 - f) = 1: no infinities, no denormals.
    parallel(threads,
             [&](int64_t i) { results[size_t(i)] = HWY_DYNAMIC_DISPATCH(multiply_adds)(kSteps, 0.5f); });
  });
  for (const float result : results) BROOD_ASSERT(result > 0.0f);
  return rate;
}

double measure_bf16_flops() {
  const Bf16Kernel kernel = bf16_choice();
  if (kernel == Bf16Kernel::kWidened) return measure_f32_flops();
  constexpr int64_t kSteps = 20'000;
  const int64_t threads = ThreadPool::instance().size();
  std::vector<double> flops(static_cast<size_t>(threads));
  const auto run = [&] {
    parallel(threads, [&](int64_t i) { flops[size_t(i)] = bf16_burst(kernel, kSteps); });
  };
  run();
  return best_rate(double(threads) * flops[0], run);
}

}  // namespace brood::kernels
#endif  // HWY_ONCE
