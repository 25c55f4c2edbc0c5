#include "brood/learn/reservoir.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "brood/base/error.h"
#include "brood/base/json.h"
#include "brood/base/random.h"
#include "brood/model/checkpoint.h"
#include "brood/model/safetensors.h"

namespace brood {

namespace {

constexpr const char* kFormat = "1";
constexpr const char* kFormatKey = "rehearsal";
constexpr const char* kGiven = "given";
constexpr const char* kNumbers = "numbers";
constexpr const char* kBlocks = "blocks";
constexpr const char* kUnfinished = "unfinished";

[[noreturn]] void refuse(const SafetensorsFile& file, const std::string& why) {
  fail("{}: it cannot be what rehearsal draws from ({}); remove it to go on without", file.name(), why);
}

// The numbers of a tensor of this type and, unless -1, of so many.
template <class T>
std::vector<T> numbers_of(const SafetensorsFile& file, const char* name, const char* type, int64_t count) {
  const StoredTensor* tensor = file.find(name);
  if (!tensor) refuse(file, fmt::format("it lacks {}", name));
  if (tensor->dtype != type || (count >= 0 && tensor->size() != count))
    refuse(file, fmt::format("{} is {} numbers of type {}", name, tensor->size(), shown(tensor->dtype)));
  std::vector<T> numbers(size_t(tensor->size()));
  if (!numbers.empty()) std::memcpy(numbers.data(), tensor->data, numbers.size() * sizeof(T));
  return numbers;
}

void check_tokens(const SafetensorsFile& file, std::span<const int32_t> tokens, int64_t vocabulary) {
  for (const int32_t token : tokens)
    if (token < 0 || token >= vocabulary) refuse(file, fmt::format("{} is no token", token));
}

}  // namespace

Reservoir::Reservoir(int64_t capacity, uint64_t seed) : capacity_(capacity / kBlock), seed_(seed) {}

uint64_t Reservoir::rank(int64_t number) const { return Random(seed_ + uint64_t(number)).next(); }

void Reservoir::add(std::span<const int32_t> tokens) {
  if (capacity_ == 0) return;
  while (!tokens.empty()) {
    const auto piece = tokens.first(std::min(tokens.size(), size_t(kBlock) - unfinished_.size()));
    unfinished_.insert(unfinished_.end(), piece.begin(), piece.end());
    given_ += int64_t(piece.size());
    tokens = tokens.subspan(piece.size());
    if (int64_t(unfinished_.size()) < kBlock) continue;
    const int64_t number = given_ / kBlock - 1;
    offer(
        {rank(number), number, std::make_shared<const std::vector<int32_t>>(std::exchange(unfinished_, {}))});
  }
}

void Reservoir::offer(Held block) {
  if (capacity_ == 0 || (blocks() == capacity_ && held_.back() < block)) return;
  held_.insert(std::upper_bound(held_.begin(), held_.end(), block), std::move(block));
  if (blocks() > capacity_) held_.pop_back();
}

MemoryWriter Reservoir::writer() const {
  return [this](const std::string& path, const std::string& save_id, FileSystem& files) {
    std::vector<uint64_t> numbers;
    std::vector<int32_t> all;
    for (const Held& held : held_) {
      numbers.push_back(uint64_t(held.number));
      all.insert(all.end(), held.tokens->begin(), held.tokens->end());
    }
    const std::array<uint64_t, 2> given{uint64_t(given_), seed_};
    const auto row = [](const char* name, const void* data, size_t count, const char* type, int64_t bytes) {
      return TensorToWrite{
          .name = name, .shape = {int64_t(count)}, .data = data, .type = type, .element_bytes = bytes};
    };
    const std::array<TensorToWrite, 4> tensors{
        row(kGiven, given.data(), given.size(), "U64", 8),
        row(kNumbers, numbers.data(), numbers.size(), "U64", 8),
        row(kBlocks, all.data(), all.size(), "I32", 4),
        row(kUnfinished, unfinished_.data(), unfinished_.size(), "I32", 4)};
    write_safetensors(path, tensors, {{kFormatKey, kFormat}, {kSave, save_id}}, files);
  };
}

void Reservoir::read(const SafetensorsFile& file, int64_t vocabulary) {
  const auto format = file.metadata().find(kFormatKey);
  if (format == file.metadata().end() || format->second != kFormat)
    refuse(file, fmt::format("it is not of format {}, the only one known", kFormat));
  const auto head = numbers_of<uint64_t>(file, kGiven, "U64", 2);
  const uint64_t given = head[0], seed = head[1];
  if (given > uint64_t(1) << 62) refuse(file, fmt::format("{} is {}", kGiven, given));
  const auto unfinished = numbers_of<int32_t>(file, kUnfinished, "I32", int64_t(given % uint64_t(kBlock)));
  const auto numbers = numbers_of<uint64_t>(file, kNumbers, "U64", -1);
  const auto all = numbers_of<int32_t>(file, kBlocks, "I32", int64_t(numbers.size()) * kBlock);
  check_tokens(file, unfinished, vocabulary);
  check_tokens(file, all, vocabulary);
  Reservoir there(capacity_ * kBlock, seed);
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] >= given / uint64_t(kBlock)) refuse(file, fmt::format("block {} never came", numbers[i]));
    const auto begin = all.begin() + int64_t(i) * kBlock;
    there.offer({there.rank(int64_t(numbers[i])), int64_t(numbers[i]),
                 std::make_shared<const std::vector<int32_t>>(begin, begin + kBlock)});
  }
  const auto same = [](const Held& a, const Held& b) { return a.number == b.number; };
  if (std::adjacent_find(there.held_.begin(), there.held_.end(), same) != there.held_.end())
    refuse(file, "a block is there twice");
  there.given_ = int64_t(given);
  there.unfinished_ = unfinished;
  *this = std::move(there);
}

}  // namespace brood
