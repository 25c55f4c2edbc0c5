// Learning that has run away: a NaN or an infinity where a loss or a weight should be.
#pragma once

#include "brood/base/error.h"

namespace brood {

// To the program a Failure like any other; whoever trains several models goes on with the next.
class Diverged : public Failure {
 public:
  using Failure::Failure;
};

}  // namespace brood
