// What the tables in registry.cc name; one line each.
#pragma once

#include "brood/blocks/block.h"

namespace brood {

// Whole layers.
Frame bdh_frame(Settings&);
std::vector<std::unique_ptr<Block>> bdh_blocks(Settings&, const Frame&, ParameterStore&, Random&);

// Halves of layers.
#define BROOD_DECLARE_PART(name) \
  std::unique_ptr<Block> make_##name(Settings&, const Place&, ParameterStore&, Random&)

BROOD_DECLARE_PART(attention);
BROOD_DECLARE_PART(gated_deltanet);
BROOD_DECLARE_PART(mamba);
BROOD_DECLARE_PART(mamba2);
BROOD_DECLARE_PART(mamba3);
BROOD_DECLARE_PART(mcsd);
BROOD_DECLARE_PART(mingru);
BROOD_DECLARE_PART(retention);
BROOD_DECLARE_PART(rwkv4);
BROOD_DECLARE_PART(rwkv7);
BROOD_DECLARE_PART(relu2);
BROOD_DECLARE_PART(rwkv4_ffn);
BROOD_DECLARE_PART(rwkv7_ffn);
BROOD_DECLARE_PART(s4d);
BROOD_DECLARE_PART(selected);
BROOD_DECLARE_PART(swiglu);
BROOD_DECLARE_PART(switch);

#undef BROOD_DECLARE_PART

}  // namespace brood
