// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>

#include "brood/base/random.h"

namespace brood {

struct Sampling {
  float temperature = 1.0f;  // 0: the most likely token (ties: the smallest index)
  int64_t top_k = 0;         // 0: all; else the k most likely (ties: the smaller index is kept)
  float top_p = 1.0f;        // 1: all; else the smallest set of tokens whose probability reaches top_p
};

// One draw from softmax(logits / temperature), cut to top_k and then, of what is left, to top_p. Uses one
// random.uniform() unless temperature is 0. A logit of -inf is a token that is never chosen.
// Throws Error: a setting out of range, a NaN or +inf among the logits, no token that can be chosen.
int32_t sample(std::span<const float> logits, const Sampling& sampling, Random& random);

}  // namespace brood
