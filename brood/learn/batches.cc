#include "brood/learn/batches.h"

#include <algorithm>

#include "brood/base/error.h"
#include "brood/base/hash.h"
#include "brood/base/random.h"

namespace brood {
namespace {

constexpr uint64_t kFactor = 0x9e3779b97f4a7c15u;  // 2^64 over the golden ratio, odd

}  // namespace

uint64_t step_seed(uint64_t seed, int64_t step) { return seed * kFactor + uint64_t(step); }

TextBatches::TextBatches(std::span<const uint8_t> data, int64_t batch, int64_t context, bool carry,
                         uint64_t seed)
    : data_(data),
      data_hash_(content_hash(std::as_bytes(data))),
      batch_(batch),
      context_(context),
      carry_(carry),
      seed_(seed) {
  const int64_t needed = carry ? batch * context + 1 : context + 1;
  if (int64_t(data.size()) < needed) {
    fail("train: {} bytes of data are too few: a batch of {} with context {}{} needs {}", data.size(), batch,
         context, carry ? ", carried on," : "", needed);
  }
}

bool TextBatches::fill(int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) {
  if (carry_) return chunk(step, tokens, targets);
  crops(step, tokens, targets);
  return true;
}

void TextBatches::crops(int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) const {
  Random random(step_seed(seed_, step));
  for (int64_t b = 0; b < batch_; ++b) {
    const auto* crop = data_.data() + random.below(data_.size() - uint64_t(context_));
    std::copy_n(crop, context_, tokens.begin() + b * context_);
    std::copy_n(crop + 1, context_, targets.begin() + b * context_);
  }
}

bool TextBatches::chunk(int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) const {
  const int64_t length = (int64_t(data_.size()) - 1) / batch_;  // steps in each of the B streams
  const int64_t chunk = step % (length / context_);
  for (int64_t b = 0; b < batch_; ++b) {
    const auto* piece = data_.data() + b * length + chunk * context_;
    std::copy_n(piece, context_, tokens.begin() + b * context_);
    std::copy_n(piece + 1, context_, targets.begin() + b * context_);
  }
  return chunk == 0;
}

nlohmann::json TextBatches::identity() const {
  return {{"data_bytes", data_.size()}, {"data_hash", fmt::format("{:016x}", data_hash_)}};
}

}  // namespace brood
