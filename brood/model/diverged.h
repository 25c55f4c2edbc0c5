// Learning that has run away: a NaN or an infinity where a loss or a weight should be.
#pragma once

#include <string>

#include "brood/base/error.h"

namespace brood {

// To the program an Error like any other; whoever trains several models goes on with the next.
class Diverged : public Error {
 public:
  explicit Diverged(const std::string& sentence) : Error(sentence) {}
};

}  // namespace brood
