// Where the batches of a training come from.
//
// A text can be cut into chunks of B streams of T steps in two ways:
//   crops    each batch is B windows at random places, read from a zero state. Which places depends on (seed,
//            step) alone, so a training that was stopped goes on with the very crops it would have seen.
//   carry    the text is cut into B long streams, read side by side in chunks of T; the state is carried from
//            chunk to chunk and the gradient stops there (truncated backpropagation through time).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>

namespace brood {

class BatchSource {
 public:
  virtual ~BatchSource() = default;

  // Writes the batch of one update, counted from 0: tokens[b·T + t], and targets, what is to be predicted
  // there, −1 where nothing is. The same update always has the same batch. True when it is read from a zero
  // state, false when the streams go on where the batch before ended.
  virtual bool fill(int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) = 0;

  virtual int64_t vocab_size() const = 0;       // tokens and targets are below it
  virtual nlohmann::json identity() const = 0;  // what a training must find again to be resumed
};

// What a step may draw by chance, the same at every run.
uint64_t step_seed(uint64_t seed, int64_t step);

// Next-byte prediction on a text, which must outlive the source.
class TextBatches final : public BatchSource {
 public:
  // Throws Error when the text is too short for the chunks asked for.
  TextBatches(std::span<const uint8_t> data, int64_t batch, int64_t context, bool carry, uint64_t seed);
  bool fill(int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) override;
  int64_t vocab_size() const override { return 256; }
  nlohmann::json identity() const override;

 private:
  void crops(int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) const;
  bool chunk(int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) const;

  std::span<const uint8_t> data_;
  uint64_t data_hash_;
  int64_t batch_, context_;
  bool carry_;
  uint64_t seed_;
};

}  // namespace brood
