// Random numbers: xoshiro256++ (Blackman and Vigna 2019), seeded by splitmix64. The same seed gives the same
// stream on every machine. Not thread-safe: one Random per owner.
#pragma once

#include <array>
#include <cstdint>

namespace brood {

class Random {
 public:
  explicit Random(uint64_t seed = 0);

  uint64_t next();
  double uniform();  // [0, 1)
  double uniform(double low, double high);
  double normal();             // N(0, 1), Box-Muller; two draws of next() each
  uint64_t below(uint64_t n);  // uniform in [0, n), n > 0, without modulo bias

  void fill_normal(float* x, int64_t n, float stddev);
  void fill_uniform(float* x, int64_t n, float low, float high);

  // The whole state, for saving and exact continuation.
  std::array<uint64_t, 4> state() const { return s_; }
  void set_state(const std::array<uint64_t, 4>& s) { s_ = s; }

 private:
  std::array<uint64_t, 4> s_;
};

}  // namespace brood
