#include "brood/base/random.h"

#include <bit>
#include <cmath>
#include <numbers>

namespace brood {

namespace {
uint64_t splitmix64(uint64_t& x) {
  uint64_t z = (x += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}
}  // namespace

Random::Random(uint64_t seed) {
  for (auto& word : s_) word = splitmix64(seed);
}

uint64_t Random::next() {
  const uint64_t result = std::rotl(s_[0] + s_[3], 23) + s_[0];
  const uint64_t t = s_[1] << 17;
  s_[2] ^= s_[0];
  s_[3] ^= s_[1];
  s_[1] ^= s_[2];
  s_[0] ^= s_[3];
  s_[2] ^= t;
  s_[3] = std::rotl(s_[3], 45);
  return result;
}

double Random::uniform() { return double(next() >> 11) * 0x1.0p-53; }

double Random::uniform(double low, double high) { return low + (high - low) * uniform(); }

double Random::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - u is never 0
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

uint64_t Random::below(uint64_t n) {
  const uint64_t limit = -n % n;  // the first 2^64 mod n values would be drawn once too often
  for (;;) {
    const uint64_t x = next();
    if (x >= limit) return x % n;
  }
}

void Random::fill_normal(float* x, int64_t n, float stddev) {
  for (int64_t i = 0; i < n; ++i) x[i] = float(normal()) * stddev;
}

void Random::fill_uniform(float* x, int64_t n, float low, float high) {
  for (int64_t i = 0; i < n; ++i) x[i] = float(uniform(low, high));
}

}  // namespace brood
