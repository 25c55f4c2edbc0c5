#include "brood/learn/nucleotide_contexts.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace brood {
namespace {

constexpr int kDenseOrder = 11;
constexpr uint16_t kMostDense = 4095, kMostHashed = 15;
// What a base that was never seen counts as: in short contexts there are enough counts for it not to matter.
constexpr float kUnseenDense = 0.5f, kUnseenHashed = 0.06f;

std::vector<float> logarithms(int most, float unseen) {
  std::vector<float> logs(size_t(most) + 1);
  for (int n = 0; n <= most; ++n) logs[size_t(n)] = std::log(float(n) + unseen);
  return logs;
}
const std::vector<float>& dense_logs() {
  static const std::vector<float> logs = logarithms(kMostDense, kUnseenDense);
  return logs;
}
const std::vector<float>& hashed_logs() {
  static const std::vector<float> logs = logarithms(kMostHashed, kUnseenHashed);
  return logs;
}

uint64_t mixed(uint64_t x) {
  x ^= x >> 31;
  x *= 0x9e3779b97f4a7c15u;
  return x ^ x >> 29;
}

template <class Count>
void opine_from(const Count& count, const std::vector<float>& logs, NucleotideOpinion& opinion) {
  float sum = 0;
  for (int base = 0; base < kNucleotides; ++base)
    sum += opinion.logs[size_t(base)] = logs[size_t(count(base))];
  for (float& log : opinion.logs) log -= sum / kNucleotides;
}

}  // namespace

void NucleotideHistory::archive(Archive& archive) {
  std::array<uint64_t, 2> codes = {forward_, inverted_};
  archive.bytes({reinterpret_cast<uint8_t*>(codes.data()), sizeof codes});
  forward_ = codes[0], inverted_ = codes[1];
  int64_t length = length_;
  archive.whole(length, 0, 32);
  length_ = int(length);
}

NucleotideContexts::NucleotideContexts(int order, int log2_slots) : order_(order), log2_slots_(log2_slots) {
  if (order <= kDenseOrder)
    dense_.resize(size_t(1) << 2 * order);
  else
    hashed_.resize(size_t(1) << log2_slots);
}

double NucleotideContexts::bytes(int order, int log2_slots) {
  return order <= kDenseOrder ? double(sizeof(Counts)) * double(int64_t(1) << 2 * order)
                              : double(sizeof(Entry)) * double(int64_t(1) << log2_slots);
}

size_t NucleotideContexts::slot(uint64_t context) const {
  return size_t(mixed(context) >> (64 - log2_slots_));
}
uint16_t NucleotideContexts::check(uint64_t context) const { return uint16_t(mixed(context) & 0xffff) | 1; }

NucleotideContexts::Entry* NucleotideContexts::find(uint64_t context, bool make) {
  constexpr size_t kNeighbours = 4;
  const size_t at = slot(context) & ~(kNeighbours - 1);
  const uint16_t sign = check(context);
  Entry* poorest = nullptr;
  int fewest = 1 << 20;
  for (size_t i = 0; i < kNeighbours; ++i) {
    Entry& entry = hashed_[at + i];
    if (entry.check == sign) return &entry;
    const int n = entry.check == 0 ? 0 : std::popcount(entry.counts) + (entry.counts & 0x8888 ? 8 : 1);
    if (n < fewest) fewest = n, poorest = &entry;
  }
  if (!make) return nullptr;
  *poorest = {sign, 0};
  return poorest;
}

void NucleotideContexts::opine(const NucleotideHistory& history, NucleotideOpinion& opinion) {
  opinion = {};
  if (history.length() < order_) return;
  const uint64_t context = history.last(order_);
  if (!dense_.empty()) {
    const Counts& counts = dense_[context];
    opine_from([&](int base) { return counts[size_t(base)]; }, dense_logs(), opinion);
    const int total = counts[0] + counts[1] + counts[2] + counts[3];
    opinion.confidence = std::min(int(std::bit_width(unsigned(total))), kNucleotideConfidences - 1);
    return;
  }
  const Entry* entry = find(context, false);
  if (!entry || entry->counts == 0) return;
  const auto of = [&](int base) { return entry->counts >> 4 * base & 15; };
  opine_from(of, hashed_logs(), opinion);
  const int total = of(0) + of(1) + of(2) + of(3), most = std::max({of(0), of(1), of(2), of(3)});
  const int kind = total == most ? 0 : total - most == 1 ? 1 : 2;  // how many others there were
  opinion.confidence = 1 + 5 * kind + std::min(int(std::bit_width(unsigned(total))) - 1, 4);
}

void NucleotideContexts::count(uint64_t context, int base) {
  if (!dense_.empty()) {
    Counts& counts = dense_[context];
    if (++counts[size_t(base)] >= kMostDense)
      for (uint16_t& n : counts) n /= 2;
    return;
  }
  Entry* entry = find(context, true);
  std::array<int, kNucleotides> n{};
  for (int i = 0; i < kNucleotides; ++i) n[size_t(i)] = entry->counts >> 4 * i & 15;
  if (n[size_t(base)] == kMostHashed)
    for (int& other : n) other /= 2;
  ++n[size_t(base)];
  // In long contexts what came last counts more.
  for (int i = 0; i < kNucleotides; ++i)
    if (i != base && n[size_t(i)] > 1) n[size_t(i)] = (n[size_t(i)] + 1) / 2;
  entry->counts = uint16_t(n[0] | n[1] << 4 | n[2] << 8 | n[3] << 12);
}

void NucleotideContexts::learn(const NucleotideHistory& before, const NucleotideHistory& after, int base) {
  if (before.length() >= order_) count(before.last(order_), base);
  // The other strand: after the complements of the last k bases, backwards, comes that of the one before them.
  if (after.length() > order_) count(after.inverted(order_), 3 - after.back(order_));
}

void NucleotideContexts::archive(Archive& archive) {
  archive.bytes({reinterpret_cast<uint8_t*>(dense_.data()), dense_.size() * sizeof(dense_[0])});
  archive.bytes({reinterpret_cast<uint8_t*>(hashed_.data()), hashed_.size() * sizeof(hashed_[0])});
  if (!archive.reading()) return;
  for (const Counts& counts : dense_)
    for (const uint16_t n : counts)
      if (n >= kMostDense) archive.refuse("a count in it cannot be");
}

void NucleotideContexts::prefetch(const NucleotideHistory& history) const {
  const uint64_t context = history.last(order_);
  if (dense_.empty())
    __builtin_prefetch(&hashed_[slot(context) & ~size_t(3)]);
  else
    __builtin_prefetch(&dense_[context]);
}

}  // namespace brood
