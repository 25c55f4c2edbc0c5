#include "brood/learn/bit_predictor.h"

#include <algorithm>
#include <array>

namespace brood {

namespace {

constexpr int kLong = 12, kShort = 5;
constexpr std::array<int, 6> kGates = {256, 256, 16 * 8, 7 * 8, 256, 256 * 3};
constexpr float kRefinementRate = 0.02f;
constexpr float kLeastP = 1.0f / 65536;

}  // namespace

BitPredictor::BitPredictor(int log2_memory, bool network)
    : past_(std::min(log2_memory, 26)),
      contexts_(log2_memory),
      long_match_(kLong, std::max(10, log2_memory - 6)),
      short_match_(kShort, std::max(10, log2_memory - 6)),
      has_network_(network),
      refined_(size_t(1) << std::clamp(log2_memory - 8, 8, 16)),
      mixer_(contexts_.inputs() + 4 + (network ? 2 : 0) + 1, kGates, 256) {
  for (int i = 0; i < 2; ++i) refinements_.emplace_back(refined_, kRefinementRate);
  if (network) network_.resize(512);
}

void BitPredictor::set_bytes(std::span<const float> probabilities) {
  std::copy(probabilities.begin(), probabilities.end(), network_.begin() + 256);
  for (size_t n = 255; n > 0; --n) network_[n] = network_[2 * n] + network_[2 * n + 1];
}

float BitPredictor::p() {
  float* x = mixer_.inputs().data();
  contexts_.predict(past_, x);
  x += contexts_.inputs();
  long_match_.predict(past_, x);
  short_match_.predict(past_, x + 2);
  x += 4;
  const uint32_t partial = past_.partial();
  if (has_network_) {
    const float sum = network_[partial], p = sum > 0 ? network_[2 * partial + 1] / sum : 0.5f;
    x[0] = stretch(p);
    x[1] = (p - 0.5f) * 4;
    x += 2;
  }
  *x = 0.3f;
  const int bit = past_.bit();
  const auto last = uint32_t(past_.last8() & 255);
  const int confidence = std::max(long_match_.confidence(), short_match_.confidence());
  const int expected = long_match_.expected() >= 0 ? long_match_.expected() : short_match_.expected();
  const std::array<int, 6> gates = {int(partial),
                                    int(last),
                                    confidence * 8 + bit,
                                    contexts_.longest() * 8 + bit,
                                    int(contexts_.situation()),
                                    int((past_.last8() >> 8 & 255) * 3 + uint32_t(bit / 3))};
  const float mixed = mixer_.p(gates, int(partial));
  const float s = mixer_.stretched();
  const uint32_t hash2 = (uint32_t(past_.last8() & 0xffff) * 0x9e3779b1u ^ partial * 0x85ebca6bu) >> 16;
  const uint32_t after_last = last * 256 + partial;
  const uint32_t after_expected = expected >= 0 ? uint32_t(expected) * 256 + partial : hash2;
  const float p1 = refinements_[0].p(s, after_last % refined_);
  const float p2 = refinements_[1].p(s, after_expected % refined_);
  return std::clamp(mixed * 0.3f + p1 * 0.3f + p2 * 0.4f, kLeastP, 1 - kLeastP);
}

void BitPredictor::learn(int bit) {
  contexts_.learn(past_, bit);
  long_match_.learn(past_, bit);
  short_match_.learn(past_, bit);
  mixer_.learn(bit);
  for (Refinement& r : refinements_) r.learn(bit);
  past_.add(bit);
}

}  // namespace brood
