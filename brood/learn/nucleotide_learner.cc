#include "brood/learn/nucleotide_learner.h"

#include <algorithm>
#include <cmath>

namespace brood {
namespace {

constexpr std::array<int, 13> kOrders = {1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 14, 16, 20};
constexpr std::array<int, 3> kMatches = {12, 20, 32};
constexpr float kMostWeight = 1e3f;
constexpr float kRate = 0.0015f;  // of 0.0005 to 0.004 all give the same to 0.0006 bits on a bacterium

}  // namespace

NucleotideLearner::NucleotideLearner(const NucleotideSettings& settings)
    : settings_(settings), past_(settings.log2_slots + 2) {
  for (const int order : kOrders) contexts_.emplace_back(order, settings.log2_slots);
  for (const int length : kMatches) matches_.emplace_back(length, settings.log2_slots);
  opinions_.resize(contexts_.size() + 2 * matches_.size());
  weights_.assign(opinions_.size() * size_t(kNucleotideConfidences), 0.2f);
}

void NucleotideLearner::predict() {
  size_t at = 0;
  for (NucleotideContexts& contexts : contexts_) contexts.opine(history_, opinions_[at++]);
  for (NucleotideMatch& match : matches_) {
    match.opine(past_, opinions_[at], opinions_[at + 1]);
    at += 2;
  }
  mix();
  predicted_ = true;
}

void NucleotideLearner::mix() {
  std::array<float, kNucleotides> sum{};
  for (size_t i = 0; i < opinions_.size(); ++i) {
    const float w = weight(i);
    for (size_t b = 0; b < kNucleotides; ++b) sum[b] += w * opinions_[i].logs[b];
  }
  const float most = *std::max_element(sum.begin(), sum.end());
  float total = 0;
  for (size_t b = 0; b < kNucleotides; ++b) total += p_[b] = std::exp(std::max(sum[b] - most, -12.0f));
  for (float& p : p_) p /= total;
}

std::array<float, kNucleotides> NucleotideLearner::distribution() {
  if (!predicted_) predict();
  return p_;
}

double NucleotideLearner::observe(int base) {
  if (!predicted_) predict();
  const double bits = -std::log2(double(p_[size_t(base)]));
  for (size_t i = 0; i < opinions_.size(); ++i) {
    const auto& logs = opinions_[i].logs;
    float expected = 0;
    for (size_t b = 0; b < kNucleotides; ++b) expected += p_[b] * logs[b];
    float& w = weight(i);
    w = std::clamp(w + kRate * (logs[size_t(base)] - expected), -kMostWeight, kMostWeight);
  }
  const NucleotideHistory before = history_;
  history_.push(base);
  past_.push(base);
  for (const NucleotideContexts& contexts : contexts_) contexts.prefetch(history_);
  for (NucleotideContexts& contexts : contexts_) contexts.learn(before, history_, base);
  for (NucleotideMatch& match : matches_) match.learn(past_, history_, base);
  predicted_ = false;
  return bits;
}

void NucleotideLearner::interrupt() {
  history_.forget();
  for (NucleotideMatch& match : matches_) match.forget();
  predicted_ = false;
}

void NucleotideLearner::archive(Archive& archive) {
  history_.archive(archive);
  past_.archive(archive);
  for (NucleotideContexts& contexts : contexts_) contexts.archive(archive);
  for (NucleotideMatch& match : matches_) match.archive(archive);
  archive.floats(weights_, -kMostWeight, kMostWeight);
  predicted_ = false;
}

double NucleotideLearner::least_bytes(int log2_slots) {
  double bytes = 0;
  for (const int order : kOrders) bytes += NucleotideContexts::bytes(order, log2_slots);
  return bytes + double(kMatches.size()) * 4.0 * double(int64_t(1) << log2_slots);
}

int64_t NucleotideLearner::bytes() const {
  int64_t bytes = past_.bytes();
  for (const NucleotideContexts& contexts : contexts_) bytes += contexts.bytes();
  for (const NucleotideMatch& match : matches_) bytes += match.bytes();
  return bytes;
}

}  // namespace brood
