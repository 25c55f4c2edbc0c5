#include "brood/blocks/registry.h"

namespace brood {

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> all = {
      {"bdh", bdh_frame, bdh_blocks},
      {"mamba", mamba_frame, mamba_blocks},
      {"transformer", transformer_frame, transformer_blocks},
  };
  return all;
}

const Architecture& find_architecture(std::string_view name) {
  std::string known;
  for (const Architecture& a : architectures()) {
    if (name == a.name) return a;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", a.name);
  }
  fail("config: there is no architecture \"{}\"; known ones are {}", name, known);
}

}  // namespace brood
