// Packing: a stream becomes the surprises of a learner. pack() predicts each bit, codes it by what it costs
// (arithmetic_coder.h) and learns from it; unpack() learns the same from what it decodes, so that its
// predictions are the same. No model stands in the file: it grows on both sides.
//
// docs/formats/pack.md lays down the bytes. Untrusted bytes are checked before they are believed: whatever
// they are, unpack() gives the packed bytes or throws Error.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "brood/learn/byte_opinion.h"

namespace brood {

// What predicts. Both sides must have the same, so it stands in the file's header.
struct PackModel {
  int log2_memory = 26;  // bytes of the memory of contexts, kLeastPackMemory to kMostPackMemory
  // A network, if one takes part: how unpack()'s caller comes by it (no longer than kMostPackName; empty:
  // none takes part), a fingerprint of its configuration and weights, and what computes it.
  std::string network = {};
  uint64_t fingerprint = 0;
  std::string arithmetic = {};
};
constexpr size_t kMostPackName = 4096;
constexpr int kLeastPackMemory = 16, kMostPackMemory = 32;

// Takes up to so many bytes and says how many; 0 at the end.
using PackRead = std::function<size_t(std::span<uint8_t>)>;
using PackWrite = std::function<void(std::span<const uint8_t>)>;

struct Packed {
  int64_t bytes = 0;   // of the plain stream
  int64_t packed = 0;  // of the file
};

// Called every now and then with what was done so far. May throw, to end the work.
using PackProgress = std::function<void(const Packed&)>;

// network: null, or that of `model`, at the beginning of a stream.
Packed pack(const PackModel& model, ByteOpinion* network, const PackRead& read, const PackWrite& write,
            const PackProgress& progress = {});

// Reads a packed stream: first its header, then, with the network that the header asks for, the rest.
class Unpacker {
 public:
  // name: of the file, for messages. Throws Error when this is no packed file, or one of another format or build.
  Unpacker(PackRead read, const std::string& name);
  ~Unpacker();

  const PackModel& model() const;
  // Throws Error when a byte is missing, damaged or too many. What was written until then is the beginning of
  // what was packed.
  Packed unpack(ByteOpinion* network, const PackWrite& write, const PackProgress& progress = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brood
