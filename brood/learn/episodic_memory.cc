#include "brood/learn/episodic_memory.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include "brood/base/crc32.h"
#include "brood/base/error.h"
#include "brood/base/json.h"
#include "brood/model/checkpoint.h"
#include "brood/model/safetensors.h"

namespace brood {

namespace {

constexpr size_t kBytes = 256;
// Raised by whoever changes what the numbers of a saved memory mean.
constexpr const char* kFormat = "2";
constexpr const char* kFormatKey = "memory";
constexpr const char* kLog2Bytes = "log2_bytes";
constexpr const char* kCursor = "cursor";
constexpr const char* kPast = "past";
constexpr const char* kCheck = "check";

// A cursor as a row of numbers, in the order of its file.
constexpr size_t kMatchNumbers = 5, kCursorNumbers = 1 + 6 + 3 * kMatchNumbers;

std::array<uint64_t, kCursorNumbers> numbers_of(const BitPredictor::Cursor& cursor) {
  const ContextMemory::Cursor& c = cursor.contexts;
  std::array<uint64_t, kCursorNumbers> numbers = {cursor.bytes,  c.line_start,       c.line_before, c.word,
                                                  c.word_before, c.word_before_that, c.kinds};
  size_t at = 7;
  for (const MatchMemory::Cursor* m : {&cursor.long_match, &cursor.short_match, &cursor.line_match})
    for (const uint64_t number :
         {m->pointer, uint64_t(m->length), uint64_t(m->missed), uint64_t(m->line), uint64_t(m->line_hash)})
      numbers[at++] = number;
  return numbers;
}

BitPredictor::Cursor cursor_of(const std::array<uint64_t, kCursorNumbers>& n) {
  BitPredictor::Cursor cursor{
      n[0], {n[1], n[2], uint32_t(n[3]), uint32_t(n[4]), uint32_t(n[5]), uint32_t(n[6])}, {}, {}, {}};
  size_t at = 7;
  for (MatchMemory::Cursor* m : {&cursor.long_match, &cursor.short_match, &cursor.line_match}) {
    *m = {n[at], uint32_t(n[at + 1]), uint32_t(n[at + 2]), uint32_t(n[at + 3]), uint32_t(n[at + 4])};
    at += kMatchNumbers;
  }
  return cursor;
}

const char* name_of(MemoryPart::Type type) {
  switch (type) {
    case MemoryPart::Type::kU8:
      return "U8";
    case MemoryPart::Type::kU32:
      return "U32";
    case MemoryPart::Type::kU64:
      return "U64";
    case MemoryPart::Type::kF32:
      break;
  }
  return "F32";
}

[[noreturn]] void refuse(const SafetensorsFile& file, const std::string& why) {
  fail("{}: it cannot be the memory of a stream ({}); remove it to go on without", file.name(), why);
}

// A part of a file, whose type and size are as they must be.
const StoredTensor& part_of(const SafetensorsFile& file, const std::string& name, const std::string& type,
                            size_t count) {
  const StoredTensor* part = file.find(name);
  if (!part) refuse(file, fmt::format("it lacks {}", name));
  if (part->dtype != type || part->size() != int64_t(count))
    refuse(file, fmt::format("{} is {} numbers of type {}, not {} of type {}", name, part->size(),
                             shown(part->dtype), count, type));
  return *part;
}

int log2_bytes_of(const SafetensorsFile& file) {
  const auto& metadata = file.metadata();
  const auto format = metadata.find(kFormatKey), size = metadata.find(kLog2Bytes);
  if (format == metadata.end() || size == metadata.end()) refuse(file, "it does not say what it is");
  if (format->second != kFormat)
    refuse(file, fmt::format("it is of format {}, and only {} is known", shown(format->second), kFormat));
  int log2_bytes = 0;
  const char* end = size->second.data() + size->second.size();
  const auto [last, error] = std::from_chars(size->second.data(), end, log2_bytes);
  if (error != std::errc() || last != end || log2_bytes < EpisodicMemory::kLeast ||
      log2_bytes > EpisodicMemory::kMost)
    refuse(file, fmt::format("{} is {}, not a number from {} to {}", kLog2Bytes, shown(size->second),
                             EpisodicMemory::kLeast, EpisodicMemory::kMost));
  return log2_bytes;
}

}  // namespace

EpisodicMemory::EpisodicMemory(int log2_bytes)
    : log2_bytes_(log2_bytes),
      predictor_({.log2_memory = log2_bytes, .network = true, .recall = true}),
      opinion_(kBytes) {
  BROOD_ASSERT(kLeast <= log2_bytes && log2_bytes <= kMost);
}

void EpisodicMemory::copy_from(const EpisodicMemory& other) {
  BROOD_ASSERT(log2_bytes_ == other.log2_bytes_);
  predictor_.copy_from(other.predictor_);
  gave_way_ = other.gave_way_;
}

void EpisodicMemory::listen_to(std::span<const float> logits) {
  BROOD_ASSERT(logits.empty() || logits.size() >= kBytes);
  const float most = logits.empty() ? 0 : *std::max_element(logits.begin(), logits.begin() + kBytes);
  float sum = 0;
  for (size_t i = 0; i < kBytes && !logits.empty(); ++i) sum += opinion_[i] = std::exp(logits[i] - most);
  // Logits that are no numbers say nothing.
  if (!(0 < sum && sum <= float(kBytes))) std::fill(opinion_.begin(), opinion_.end(), 1.0f / kBytes);
  predictor_.set_bytes(opinion_);
}

double EpisodicMemory::see(std::span<const float> logits, uint8_t byte, bool remember) {
  listen_to(logits);
  gave_way_.clear();
  if (!remember) {
    const double nats = predictor_.cost(byte);
    predictor_.follow(byte);
    return nats;
  }
  double nats = 0;
  for (int place = 7; place >= 0; --place) {
    const int bit = byte >> place & 1;
    const float one = predictor_.p();
    nats -= std::log(double(bit ? one : 1 - one));
    predictor_.learn(bit);
  }
  return nats;
}

void EpisodicMemory::distribution(std::span<const float> logits, std::span<float> probabilities) {
  listen_to(logits);
  predictor_.distribution(probabilities);
}

void EpisodicMemory::hear(uint8_t byte) { gave_way_.push_back(predictor_.follow(byte)); }

void EpisodicMemory::take_back(const Place& place) {
  BROOD_ASSERT(place.heard <= gave_way_.size());
  predictor_.return_to(place.cursor, std::span(gave_way_).subspan(place.heard));
  gave_way_.resize(place.heard);
}

MemoryWriter EpisodicMemory::writer() const {
  return [this](const std::string& path, const std::string& save_id, FileSystem& files) {
    MemoryParts parts = predictor_.parts();
    std::array<uint64_t, kCursorNumbers> cursor = numbers_of(predictor_.cursor());
    parts.push_back({kCursor, MemoryPart::Type::kU64, cursor.data(), cursor.size()});
    std::vector<uint8_t> past = predictor_.past().last();
    parts.push_back({kPast, MemoryPart::Type::kU8, past.data(), past.size()});
    std::vector<TensorToWrite> tensors;
    uint32_t check = 0;
    for (const MemoryPart& part : parts) {
      check = crc32({static_cast<const uint8_t*>(part.data), part.count * part.element_bytes()}, check);
      tensors.push_back({.name = part.name,
                         .shape = {int64_t(part.count)},
                         .data = part.data,
                         .type = name_of(part.type),
                         .element_bytes = int64_t(part.element_bytes())});
    }
    write_safetensors(path, tensors,
                      {{kFormatKey, kFormat},
                       {kLog2Bytes, std::to_string(log2_bytes_)},
                       {kCheck, std::to_string(check)},
                       {kSave, save_id}},
                      files);
  };
}

std::unique_ptr<EpisodicMemory> EpisodicMemory::read(const SafetensorsFile& file, bool with_check) {
  const int log2_bytes = log2_bytes_of(file);
  // Before any memory is taken: the file itself is as large as the largest of it.
  part_of(file, "contexts.lines", "U8", size_t(1) << log2_bytes);
  auto memory = std::make_unique<EpisodicMemory>(log2_bytes);
  MemoryParts parts = memory->predictor_.parts();
  std::array<uint64_t, kCursorNumbers> cursor{};
  parts.push_back({kCursor, MemoryPart::Type::kU64, cursor.data(), cursor.size()});
  uint32_t check = 0;
  for (const MemoryPart& part : parts) {
    const StoredTensor& stored = part_of(file, part.name, name_of(part.type), part.count);
    check = crc32({reinterpret_cast<const uint8_t*>(stored.data), size_t(stored.bytes)}, check);
    std::memcpy(part.data, stored.data, size_t(stored.bytes));
  }
  const size_t past = size_t(std::min(cursor[0], memory->predictor_.past().capacity()));
  const StoredTensor& last = part_of(file, kPast, "U8", past);
  if (file.tensors().size() != parts.size() + 1) refuse(file, "it holds more than such a memory");
  const std::span<const uint8_t> last_bytes(reinterpret_cast<const uint8_t*>(last.data), past);
  const auto noted = file.metadata().find(kCheck);
  if (noted == file.metadata().end()) refuse(file, "it lacks a check");
  if (with_check && noted->second != std::to_string(crc32(last_bytes, check)))
    refuse(file, "it is damaged: its check is another");
  if (!memory->predictor_.resume(cursor_of(cursor), last_bytes)) refuse(file, "its numbers do not agree");
  return memory;
}

}  // namespace brood
