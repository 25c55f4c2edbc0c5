// The episodic memory of a stream of bytes: what was seen once is known. Contexts of several orders and longest
// matches speak beside the network, and a mixer that learns bit by bit weighs them all (bit_predictor.h).
//
// It does not forget as a network does: what it holds gives way only when its bounded tables are full. It is
// the same for any number of threads, and what is saved goes on to the bit.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "brood/learn/bit_predictor.h"
#include "brood/model/directory.h"

namespace brood {

// Not thread-safe.
class EpisodicMemory {
 public:
  static constexpr int kLeast = 16, kMost = 32;  // log2 of the bytes of contexts

  // Takes 2^log2_bytes bytes for contexts, three quarters of that for matches, as much for the last bytes of the
  // stream, at most 64 MB of those, and up to 18 MB for what weighs them. Throws Error when there is not that much.
  explicit EpisodicMemory(int log2_bytes);

  // Becomes what another one of the same size is.
  void copy_from(const EpisodicMemory& other);

  int log2_bytes() const { return log2_bytes_; }
  uint64_t bytes_seen() const { return predictor_.past().bytes(); }

  // What the next byte costs, in nats, predicted from what is remembered and from the network's logits for it (256
  // or more; bytes come first), which may be empty: no network, any byte is as likely as another. Then it is
  // learnt from; or only followed, when nothing is to be remembered.
  double see(std::span<const float> logits, uint8_t byte, bool remember = true);

  // The probabilities of the 256 bytes that may be next. Changes nothing.
  void distribution(std::span<const float> logits, std::span<float> probabilities);
  // The next byte was this. It is followed and not learnt from, and can be taken back.
  void hear(uint8_t byte);
  // Where it stands among the bytes heard, and back to there. see() ends what can be taken back.
  struct Place {
    BitPredictor::Cursor cursor;
    size_t heard = 0;
  };
  Place place() const { return {predictor_.cursor(), gave_way_.size()}; }
  void take_back(const Place& place);

  // A file of a model directory (docs/formats/model-directory.md). Throws Error: what the system says.
  MemoryWriter writer() const;
  // Throws Error when the file cannot be that of such a memory: nothing in it is believed. Its check tells damage by
  // chance; without it what remains is what holds against forgers.
  static std::unique_ptr<EpisodicMemory> read(const SafetensorsFile& file, bool with_check = true);

 private:
  void listen_to(std::span<const float> logits);

  int log2_bytes_;
  BitPredictor predictor_;
  std::vector<float> opinion_;     // the network's probabilities
  std::vector<uint8_t> gave_way_;  // what stood in the past where the bytes heard stand now
};

}  // namespace brood
