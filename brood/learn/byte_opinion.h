// Something that has an opinion of the next byte before it is seen: a network that learns as it goes.
#pragma once

#include <cstdint>
#include <span>

namespace brood {

// Whoever sees the same bytes has the same opinions, to the bit.
class ByteOpinion {
 public:
  virtual ~ByteOpinion() = default;
  virtual std::span<const float> next() const = 0;  // probabilities of the 256 bytes
  virtual void see(uint8_t byte) = 0;               // it was this
};

}  // namespace brood
