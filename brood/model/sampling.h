// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>

#include "brood/base/random.h"

namespace brood {

struct Sampling {
  float temperature = 1.0f;  // 0: the most likely token (ties: the smallest index)
  int64_t top_k = 0;         // 0: all
  float top_p = 1.0f;        // 1: all; else the smallest set of tokens whose probability reaches top_p
};
int32_t sample(std::span<const float> logits, const Sampling& sampling, Random& random);

}  // namespace brood
