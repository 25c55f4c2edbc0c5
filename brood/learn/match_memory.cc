#include "brood/learn/match_memory.h"

#include <algorithm>

namespace brood {

namespace {

constexpr uint32_t kMissed = 8;     // bytes for which it remembers that it was wrong
constexpr uint32_t kLeastLine = 2;  // bytes of a line that say something

// How far a match is believed that was never tested: what a stream cannot have taught about long ones yet.
float untested(int length_class) {
  return length_class < 12 ? 0.75f : length_class < 16 ? 0.9f : length_class < 20 ? 0.97f : 0.99f;
}

}  // namespace

MatchMemory::MatchMemory(int least, int log2_entries)
    : least_(least), last_seen_(size_t(1) << log2_entries), trust_(kLengths * 16, 1000) {
  for (size_t i = 0; i < kLengths * 16; ++i) trust_.set(i, untested(int(i / 16)));
}

bool MatchMemory::Cursor::possible(uint64_t bytes) const {
  return (length == 0 || pointer < bytes) && length <= kLongest && missed < kMissed && line <= bytes;
}

int MatchMemory::length_class() const {
  const int length = int(cursor_.length);
  if (length < 16) return length;
  if (length < 32) return 16 + (length - 16) / 4;
  return std::min(20 + (length - 32) / 16, kLengths - 1);
}

int MatchMemory::confidence() const { return cursor_.length == 0 ? 0 : std::min(15, 1 + length_class() / 2); }

void MatchMemory::find(const Past& past, uint64_t seen) {
  uint32_t n = 0;
  while (n < kLongest && n < seen && past.at(seen - 1 - n) == past.back(n + 1)) ++n;
  if (n < std::min(kLongest, least_ == kWholeLine ? cursor_.line : uint32_t(least_))) return;
  cursor_.length = n;
  cursor_.pointer = seen;
}

void MatchMemory::follow_line(const Past& past) {
  Cursor& c = cursor_;
  const uint8_t byte = past.back(1);
  c.line = byte == '\n' ? 0 : c.line + 1;
  c.line_hash = byte == '\n' ? 0 : (c.line_hash + byte + 1) * 0x9e3779b1u;
  c.line_hash ^= c.line_hash >> 15;
}

// The place of what is looked for; false when there is nothing to look for yet.
bool MatchMemory::look_up(const Past& past, uint32_t*& entry) {
  uint64_t hash = 0;
  if (least_ == kWholeLine) {
    if (cursor_.line < kLeastLine) return false;
    hash = uint64_t(cursor_.line_hash) * 0x9e3779b97f4a7c15u;
  } else {
    if (past.bytes() < uint64_t(least_)) return false;
    for (int n = least_; n > 0; --n) hash = (hash + past.back(uint64_t(n)) + 1) * 0x9e3779b97f4a7c15u;
  }
  entry = &last_seen_[(hash >> 20) & (last_seen_.size() - 1)];
  return true;
}

void MatchMemory::next_byte(const Past& past, bool remember) {
  if (past.bytes() == 0) return;
  Cursor& c = cursor_;
  if (c.length > 0 && past.back(1) == expected_) {
    c.length = std::min(c.length + 1, kLongest);
    ++c.pointer;
  } else if (c.length > 0) {
    c.length = 0;
    c.missed = kMissed;
  }
  if (c.missed > 0) --c.missed;
  if (least_ == kWholeLine) follow_line(past);
  if (uint32_t* entry = nullptr; look_up(past, entry)) {
    const uint32_t ago = uint32_t(past.bytes()) - *entry;
    if (c.length == 0 && *entry > 0 && ago < past.bytes() && ago < past.capacity() - kLongest)
      find(past, past.bytes() - ago);
    if (remember) *entry = uint32_t(past.bytes());
  }
  if (c.length > 0) expected_ = past.at(c.pointer);
}

void MatchMemory::return_to(const Cursor& cursor, const Past& past) {
  cursor_ = cursor;
  expected_ = past.at(cursor.pointer);
}

int MatchMemory::expected_bit(const Past& past) const {
  if (cursor_.length == 0 || (uint32_t(expected_) | 256u) >> (8 - past.bit()) != past.partial()) return -1;
  return expected_ >> (7 - past.bit()) & 1;
}

size_t MatchMemory::situation(const Past& past) const {
  return size_t(length_class() * 16 + (cursor_.missed > 0 ? 8 : 0) + past.bit());
}

void MatchMemory::consider(const Past& past, float* inputs) {
  const int bit = expected_bit(past);
  inputs[0] = inputs[1] = 0;
  if (bit < 0) return;
  const float x = trust_.stretched(situation(past)), p = trust_.p(situation(past));
  inputs[0] = bit ? x : -x;
  inputs[1] = (p - 0.5f) * (bit ? 4.0f : -4.0f);
}

void MatchMemory::learn(const Past& past, int bit) {
  const int expected = expected_bit(past);
  if (expected >= 0) trust_.learn(bit == expected);
}

void MatchMemory::name_parts(const std::string& name, MemoryParts& parts) {
  parts.push_back({name + ".last_seen", MemoryPart::Type::kU32, last_seen_.data(), last_seen_.size()});
  trust_.name_parts(name + ".trust", parts);
}

}  // namespace brood
