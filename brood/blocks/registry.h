// The architectures by name; one line each in registry.cc.
#pragma once

#include "brood/blocks/block.h"

namespace brood {

#define BROOD_DECLARE_ARCHITECTURE(name) \
  Frame name##_frame(Settings&);         \
  std::vector<std::unique_ptr<Block>> name##_blocks(Settings&, const Frame&, ParameterStore&, Random&)

BROOD_DECLARE_ARCHITECTURE(bdh);
BROOD_DECLARE_ARCHITECTURE(mamba);
BROOD_DECLARE_ARCHITECTURE(transformer);

#undef BROOD_DECLARE_ARCHITECTURE

}  // namespace brood
