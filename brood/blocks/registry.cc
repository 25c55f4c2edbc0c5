#include "brood/blocks/registry.h"

#include "brood/blocks/stack.h"

namespace brood {

namespace {

// As the public checkpoints of Mamba and of Llama-like Transformers spell their parameters.
constexpr Spelling kMamba = {.embedding = "backbone.embedding.weight",
                             .final_norm = "backbone.norm_f.weight",
                             .head = "lm_head.weight",
                             .layer = "backbone.layers.",
                             .mixer_norm = "norm.weight"};
constexpr Spelling kLlama = {.embedding = "model.embed_tokens.weight",
                             .final_norm = "model.norm.weight",
                             .head = "lm_head.weight",
                             .layer = "model.layers.",
                             .mixer_norm = "input_layernorm.weight",
                             .feed_norm = "post_attention_layernorm.weight",
                             .mixer = "self_attn.",
                             .feed = "mlp."};

}  // namespace

const std::vector<Part>& mixers() {
  static const std::vector<Part> all = {
      {"attention", make_attention}, {"mamba", make_mamba},         {"mamba2", make_mamba2},
      {"mcsd", make_mcsd},           {"retention", make_retention},
  };
  return all;
}

const std::vector<Part>& feeds() {
  static const std::vector<Part> all = {
      {"relu2", make_relu2},
      {"swiglu", make_swiglu},
  };
  return all;
}

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> all = {
      {"bdh", bdh_frame, bdh_blocks},
      stack("mamba", "mamba", "none", kMamba),
      stack("mamba2", "mamba2", "none", kMamba),
      stack("mcsd", "mcsd", "swiglu", {}),
      stack("retention", "retention", "swiglu", {}),
      stack("stack", "", "none", {}),
      stack("transformer", "attention", "swiglu", kLlama),
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
