#include "brood/learn/context_memory.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <new>

#include "brood/base/error.h"
#include "brood/base/memory.h"

namespace brood {

namespace {

uint32_t mixed(uint64_t a, uint64_t b) {
  uint64_t h = (a + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
  h = (h ^ (h >> 29) ^ b) * 0x94d049bb133111ebu;
  return uint32_t(h >> 32) ^ uint32_t(h);
}

uint64_t last_bytes(uint64_t last8, int n) { return n >= 8 ? last8 : last8 & ((uint64_t(1) << (8 * n)) - 1); }

// Kinds of bytes: letters, digits, blanks, the rest.
uint32_t kind(uint8_t byte) {
  if (byte >= 128 || std::isalpha(byte)) return 1;
  if (std::isdigit(byte)) return 2;
  return byte <= ' ' ? 0 : 3;
}

// Which of the 15 places of a line the next bit has: nodes of a tree of four bits, level by level.
size_t place_of(const Past& past) {
  const int depth = past.bit() & 3;
  return (past.partial() & ((1u << depth) - 1)) + (1u << depth) - 1;
}

}  // namespace

void ContextMemory::FreeLines::operator()(Line* lines) const { std::free(lines); }

ContextMemory::ContextMemory(int log2_bytes)
    : histories_(BitHistories::instance()), bucket_mask_((uint32_t(1) << (log2_bytes - 6)) - 1) {
  BROOD_ASSERT(10 <= log2_bytes && log2_bytes <= 36);
  const size_t bytes = size_t(1) << log2_bytes;
  require_memory(double(bytes), "the memory of contexts", "choose a smaller one by --memory");
  void* memory = std::aligned_alloc(64, bytes);
  if (!memory) throw std::bad_alloc();
  std::fill_n(static_cast<uint8_t*>(memory), bytes, uint8_t(0));
  lines_.reset(static_cast<Line*>(memory));
  for (int i = 0; i < kContexts; ++i) {
    AdaptiveMap map(256, 1000);
    for (int h = 0; h < histories_.size(); ++h) {
      const float ones = float(histories_.ones(uint8_t(h))), zeros = float(histories_.zeros(uint8_t(h)));
      map.set(size_t(h), (ones + 0.4f) / (ones + zeros + 0.8f));
    }
    meanings_.push_back(std::move(map));
  }
}

int ContextMemory::inputs() const { return kContexts * kPerContext; }

ContextMemory::Line* ContextMemory::take(uint32_t hash) {
  Line* bucket = lines_.get() + size_t(hash & bucket_mask_) * 4;
  const uint8_t check = uint8_t(hash >> 24);
  Line* least = bucket;
  int fewest = 1 << 30;
  for (Line* line = bucket; line < bucket + 4; ++line) {
    if (line->check == check) return line;
    const int used = histories_.zeros(line->places[0]) + histories_.ones(line->places[0]);
    if (used < fewest) {
      fewest = used;
      least = line;
    }
  }
  *least = {check, {}};
  return least;
}

const ContextMemory::Line* ContextMemory::look(uint32_t hash) const {
  static constexpr Line kEmpty{};
  const Line* bucket = lines_.get() + size_t(hash & bucket_mask_) * 4;
  for (const Line* line = bucket; line < bucket + 4; ++line)
    if (line->check == uint8_t(hash >> 24)) return line;
  return &kEmpty;
}

void ContextMemory::follow_words(uint8_t byte) {
  Cursor& c = cursor_;
  const uint32_t k = kind(byte);
  c.kinds = c.kinds << 2 | k;
  if (k == 1) {
    c.word = mixed(c.word, uint64_t(std::tolower(byte)));
    return;
  }
  if (c.word != 0) {
    c.word_before_that = c.word_before;
    c.word_before = c.word;
    c.word = 0;
  }
}

void ContextMemory::follow(const Past& past) {
  const uint8_t byte = past.back(1);
  follow_words(byte);
  if (byte == '\n') {
    cursor_.line_before = cursor_.line_start;
    cursor_.line_start = past.bytes();
  }
}

void ContextMemory::set_hashes(const Past& past) {
  const uint64_t last8 = past.last8();
  const Cursor& c = cursor_;
  const uint64_t column = past.bytes() - c.line_start;
  const bool has_above = c.line_start > 0 && c.line_before + column < c.line_start;
  const uint64_t above = has_above ? past.at(c.line_before + column) : 0;
  int i = 0;
  const auto context = [&](uint64_t what, uint64_t more = 0) {
    hashes_[size_t(i)] = mixed(what, more << 8 | uint64_t(i));
    ++i;
  };
  for (int order = 1; order <= kOrders; ++order) context(last_bytes(last8, order));
  context(0);
  context(c.word, last8 & 255);
  context(c.word, c.word_before);
  context(c.word, uint64_t(c.word_before) << 20 ^ c.word_before_that);
  context(c.word, uint64_t(c.word_before_that) << 8);
  context(c.word_before, last8 & 255);
  context(last8 & 0xff00);
  context(last8 & 0xffff00);
  context(last8 & 0xff00ff);
  context(last8 & 0xf0f0f0f0f0ff);
  context(c.kinds & 0xffff, last8 & 255);
  context(above, last8 & 255);
  context(column, above);
  BROOD_ASSERT(i == kContexts);
}

void ContextMemory::next_byte(const Past& past, bool) {
  if (past.bytes() > 0) follow(past);
  set_hashes(past);
}

void ContextMemory::return_to(const Cursor& cursor, const Past& past) {
  cursor_ = cursor;
  set_hashes(past);
}

uint32_t ContextMemory::hash(size_t context, const Past& past) const {
  return past.bit() == 0 ? hashes_[context] : mixed(hashes_[context], past.partial());
}

void ContextMemory::predict(const Past& past, float* inputs) {
  if ((past.bit() & 3) == 0) {
    for (size_t i = 0; i < kContexts; ++i)
      __builtin_prefetch(lines_.get() + size_t(hash(i, past) & bucket_mask_) * 4);
    for (size_t i = 0; i < kContexts; ++i) chosen_[i] = taken_[i] = take(hash(i, past));
  }
  speak(past, inputs);
}

void ContextMemory::consider(const Past& past, float* inputs) {
  if ((past.bit() & 3) == 0)
    for (size_t i = 0; i < kContexts; ++i) chosen_[i] = look(hash(i, past));
  speak(past, inputs);
}

void ContextMemory::speak(const Past& past, float* inputs) {
  if (past.bit() == 0) {
    longest_ = 0;
    while (longest_ < kOrders && chosen_[size_t(longest_)]->places[0] != 0) ++longest_;
  }
  const size_t place = place_of(past);
  for (size_t i = 0; i < kContexts; ++i) {
    const uint8_t history = chosen_[i]->places[place];
    const float x = meanings_[i].stretched(history);
    inputs[kPerContext * i] = history == 0 ? 0 : x;
    inputs[kPerContext * i + 1] = history == 0 ? 0 : (meanings_[i].p(history) - 0.5f) * 4;
    // Only one of the two ever came here: a kind of evidence of its own.
    const bool one_sided = (histories_.zeros(history) == 0) != (histories_.ones(history) == 0);
    inputs[kPerContext * i + 2] = one_sided ? x : 0;
  }
}

void ContextMemory::learn(const Past& past, int bit) {
  const size_t place = place_of(past);
  for (size_t i = 0; i < kContexts; ++i) {
    uint8_t& history = taken_[i]->places[place];
    meanings_[i].learn(bit);
    history = histories_.next(history, bit);
  }
}

void ContextMemory::name_parts(MemoryParts& parts) {
  const size_t lines = (size_t(bucket_mask_) + 1) * 4;
  parts.push_back({"contexts.lines", MemoryPart::Type::kU8, lines_.get(), lines * sizeof(Line)});
  for (size_t i = 0; i < kContexts; ++i)
    meanings_[i].name_parts(fmt::format("contexts.meanings.{}", i), parts);
}

bool ContextMemory::sound() const {
  const size_t lines = (size_t(bucket_mask_) + 1) * 4;
  uint8_t most = 0;
  for (size_t i = 0; i < lines; ++i)
    for (const uint8_t history : lines_[i].places) most = std::max(most, history);
  return most < histories_.size();
}

}  // namespace brood
