// Learning in the logistic domain, one bit at a time: a probability p stands as stretch(p) = ln(p / (1 - p)).
//
// Source of the equations: M. Mahoney, "Data Compression Explained" (§4.3.2 logistic mixing, §4.3.3 adaptive
// probability maps). Everything here is determined by the bits seen: no clock, no thread, no random number.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "brood/learn/memory_parts.h"

namespace brood {

constexpr float kMostStretch = 12;  // stretch(p) is cut off at +- this

float squash(float x);  // 1 / (1 + exp(-x)), from a table, interpolated
float stretch(float p);

// A probability for each of `size` situations, learnt as the mean of the bits that came there: with the n-th
// bit it moves by 1 / (n + 1.5) of the error, at least by 1 / limit. 22 bits of probability, 10 of count.
class AdaptiveMap {
 public:
  AdaptiveMap(size_t size, int limit);
  void set(size_t situation, float p);

  // Of the next bit being a one. The situation is remembered for learn().
  float p(size_t situation) {
    at_ = situation;
    return float(cells_[situation] >> 10) * (1.0f / (1 << 22));
  }
  float stretched(size_t situation);
  void learn(int bit);
  int count(size_t situation) const { return int(cells_[situation] & 1023); }
  void name_parts(const std::string& name, MemoryParts& parts);  // any numbers will do

 private:
  std::vector<uint32_t> cells_;
  size_t at_ = 0;
  uint32_t limit_;
};

// Refines a probability in each of `size` situations: a curve through 33 points of stretch(p), each of which
// moves towards the bits that came when p was near it (secondary symbol estimation).
class Refinement {
 public:
  // As long as nothing was learnt a curve is least + (1 - least) squash(stretch(p) + shift): p itself, or more.
  Refinement(size_t size, float rate, float least = 0, float shift = 0);
  float p(float stretched, size_t situation);
  void learn(int bit);
  void name_parts(const std::string& name, MemoryParts& parts);
  bool sound() const;  // whether parts that were read can be those of such a curve

 private:
  static constexpr int kPoints = 33;
  std::vector<float> curves_;
  size_t low_ = 0;
  float share_ = 0;  // of the upper point
  float rate_;
};

// A gated mixture of experts: p = squash(sum_i w_i x_i), the weights w chosen by a situation (the gate) and
// moved after each bit by rate * (bit - p) * x_i: the gradient of the cost in nats. Several gates look at the
// same inputs, each with its own weights; a last mixer weighs their results.
class GatedMixer {
 public:
  // gate_sizes: situations of each gate; final_size: of the last mixer's.
  GatedMixer(int inputs, std::span<const int> gate_sizes, int final_size);

  std::span<float> inputs() { return {inputs_.data(), size_t(count_)}; }
  // gates: the situation of each gate now.
  float p(std::span<const int> gates, int final_gate);
  float stretched() const { return final_sum_; }
  void learn(int bit);
  void name_parts(const std::string& name, MemoryParts& parts);
  bool sound() const;  // whether parts that were read can be those of such a mixer

 private:
  int count_, padded_, gates_, final_padded_;
  std::vector<float> inputs_, weights_, final_inputs_, final_weights_;
  std::vector<size_t> starts_, chosen_;
  std::vector<float> results_;
  size_t final_chosen_ = 0;
  float final_sum_ = 0, final_p_ = 0.5f;
  uint64_t learnt_ = 0;
};

}  // namespace brood
