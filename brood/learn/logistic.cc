#include "brood/learn/logistic.h"

#include <algorithm>
#include <cmath>

#include "brood/base/error.h"

namespace brood {

namespace {

constexpr int kLanes = 8;  // partial sums: their order is that of the source, whatever the compiler does
constexpr int kCellsPerOne = 128;  // of the table of squash

struct Tables {
  std::array<float, size_t(2 * kMostStretch * kCellsPerOne) + 2> squash;
  std::array<float, 4096> stretch;
  std::array<uint32_t, 1024> reciprocal;  // of n + 1.5, 16 bits after the point

  Tables() {
    for (size_t i = 0; i < squash.size(); ++i)
      squash[i] = float(1 / (1 + std::exp(double(kMostStretch) - double(i) / kCellsPerOne)));
    for (size_t i = 0; i < stretch.size(); ++i) {
      const double p = (double(i) + 0.5) / double(stretch.size());
      stretch[i] = float(std::log(p / (1 - p)));
    }
    for (size_t i = 0; i < reciprocal.size(); ++i) reciprocal[i] = uint32_t(65536 / (double(i) + 1.5));
  }
};

const Tables tables;

int padded(int n) { return (n + kLanes - 1) / kLanes * kLanes; }

float dot(const float* a, const float* b, int n) {
  float sums[kLanes] = {};
  for (int i = 0; i < n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) sums[l] += a[i + l] * b[i + l];
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

void add_scaled(float* a, const float* b, float scale, int n) {
  for (int i = 0; i < n; ++i) a[i] += scale * b[i];
}

}  // namespace

float squash(float x) {
  const float at = (std::clamp(x, -kMostStretch, kMostStretch) + kMostStretch) * kCellsPerOne;
  const int cell = int(at);
  const float share = at - float(cell);
  return tables.squash[size_t(cell)] * (1 - share) + tables.squash[size_t(cell) + 1] * share;
}

float stretch(float p) { return tables.stretch[size_t(std::clamp(p * 4096.0f, 0.0f, 4095.0f))]; }

AdaptiveMap::AdaptiveMap(size_t size, int limit) : cells_(size, 1u << 31), limit_(uint32_t(limit)) {
  BROOD_ASSERT(0 < limit && limit < 1024);
}

void AdaptiveMap::set(size_t situation, float p) {
  cells_[situation] = uint32_t(std::clamp(p, 0.0001f, 0.9999f) * float(1 << 22)) << 10;
}

float AdaptiveMap::stretched(size_t situation) {
  at_ = situation;
  return tables.stretch[cells_[situation] >> 20];
}

void AdaptiveMap::learn(int bit) {
  uint32_t& cell = cells_[at_];
  const uint32_t n = cell & 1023;
  const int64_t error = (int64_t(bit) << 22) - int64_t(cell >> 10);
  const int64_t moved = int64_t(cell >> 10) + ((error * int64_t(tables.reciprocal[n])) >> 16);
  cell = uint32_t(std::clamp<int64_t>(moved, 1, (1 << 22) - 1)) << 10 | (n < limit_ ? n + 1 : n);
}

void AdaptiveMap::name_parts(const std::string& name, MemoryParts& parts) {
  parts.push_back({name, MemoryPart::Type::kU32, cells_.data(), cells_.size()});
}

Refinement::Refinement(size_t size, float rate, float least, float shift)
    : curves_(size * kPoints), rate_(rate) {
  std::array<float, kPoints> begin;
  for (int i = 0; i < kPoints; ++i) {
    const float p = squash(float(i - kPoints / 2) * (2 * kMostStretch / (kPoints - 1)) + shift);
    begin[size_t(i)] = least + (1 - least) * p;
  }
  for (size_t i = 0; i < curves_.size(); i += kPoints)
    std::copy(begin.begin(), begin.end(), curves_.begin() + int64_t(i));
}

float Refinement::p(float stretched, size_t situation) {
  const float at = (std::clamp(stretched, -kMostStretch, kMostStretch - 0.001f) + kMostStretch) *
                   (float(kPoints - 1) / (2 * kMostStretch));
  const int cell = int(at);
  share_ = at - float(cell);
  low_ = situation * kPoints + size_t(cell);
  return curves_[low_] * (1 - share_) + curves_[low_ + 1] * share_;
}

void Refinement::learn(int bit) {
  const size_t nearer = low_ + (share_ > 0.5f);
  curves_[nearer] += rate_ * (float(bit) - curves_[nearer]);
}

void Refinement::name_parts(const std::string& name, MemoryParts& parts) {
  parts.push_back({name, MemoryPart::Type::kF32, curves_.data(), curves_.size()});
}

bool Refinement::sound() const {
  return std::all_of(curves_.begin(), curves_.end(), [](float p) { return 0 <= p && p <= 1; });
}

GatedMixer::GatedMixer(int inputs, std::span<const int> gate_sizes, int final_size)
    : count_(inputs), padded_(padded(inputs)), gates_(int(gate_sizes.size())), final_padded_(padded(gates_)) {
  inputs_.resize(size_t(padded_));
  size_t rows = 0;
  for (const int size : gate_sizes) {
    starts_.push_back(rows);
    rows += size_t(size);
  }
  weights_.resize(rows * size_t(padded_), 0.15f);
  chosen_.resize(size_t(gates_));
  results_.resize(size_t(gates_));
  final_inputs_.resize(size_t(final_padded_));
  final_weights_.resize(size_t(final_size) * size_t(final_padded_), 1.0f / float(gates_));
}

float GatedMixer::p(std::span<const int> gates, int final_gate) {
  for (int g = 0; g < gates_; ++g) {
    const size_t k = size_t(g);
    chosen_[k] = (starts_[k] + size_t(gates[k])) * size_t(padded_);
    final_inputs_[k] =
        std::clamp(dot(&weights_[chosen_[k]], inputs_.data(), padded_), -kMostStretch, kMostStretch);
    results_[k] = squash(final_inputs_[k]);
  }
  final_chosen_ = size_t(final_gate) * size_t(final_padded_);
  final_sum_ = std::clamp(dot(&final_weights_[final_chosen_], final_inputs_.data(), final_padded_),
                          -kMostStretch, kMostStretch);
  return final_p_ = squash(final_sum_);
}

void GatedMixer::learn(int bit) {
  // Large steps while everything is new.
  ++learnt_;
  const float rate = 0.002f + 0.02f / (1.0f + float(learnt_) / 8192.0f);
  for (size_t k = 0; k < size_t(gates_); ++k)
    add_scaled(&weights_[chosen_[k]], inputs_.data(), rate * (float(bit) - results_[k]), padded_);
  const float final_rate = 0.002f;
  add_scaled(&final_weights_[final_chosen_], final_inputs_.data(), final_rate * (float(bit) - final_p_),
             final_padded_);
}

void GatedMixer::name_parts(const std::string& name, MemoryParts& parts) {
  parts.push_back({name + ".weights", MemoryPart::Type::kF32, weights_.data(), weights_.size()});
  parts.push_back(
      {name + ".final_weights", MemoryPart::Type::kF32, final_weights_.data(), final_weights_.size()});
  parts.push_back({name + ".learnt", MemoryPart::Type::kU64, &learnt_, 1});
}

bool GatedMixer::sound() const {
  // Far above what learning leads to, and far below what would not add up.
  constexpr float kMostWeight = 1e6f;
  const auto possible = [](float w) { return std::abs(w) <= kMostWeight; };
  return std::all_of(weights_.begin(), weights_.end(), possible) &&
         std::all_of(final_weights_.begin(), final_weights_.end(), possible) && learnt_ < uint64_t(1) << 62;
}

}  // namespace brood
