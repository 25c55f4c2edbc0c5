// What is said of the architectures after the Transformer, held against what a comparison measured of them and
// of the Transformer of the same size beside them (docs/compare.md says whose claims they are).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "brood/learn/comparison.h"

namespace brood {

struct Claim {
  enum class Verdict { kHolds, kInPart, kDoesNotHold, kNotMeasured };
  std::string claim, model, against;  // against: the Transformer's name; empty where the claim wants none
  Verdict verdict = Verdict::kNotMeasured;
  std::string measured;  // in words and figures, or why it was not
};
const char* verdict_text(Claim::Verdict verdict);  // "holds", "holds in part", ...

// Every claim about every model whose measuring is finished, claim by claim. What is said against the
// Transformer is held against the one nearest in size, and not judged beyond kSameSize; where there is none it
// is left out.
std::vector<Claim> comparison_claims(const Comparison& comparison);
constexpr double kSameSize = 1.5;  // more parameters than the smaller of the two, at most so many times

nlohmann::json claim_json(const Claim& claim);

std::string context_text(
    int64_t bytes);  // "100", "8k", "1M": powers of 1024 where it is one of their multiples

}  // namespace brood
