#include "brood/blocks/registry.h"

#include "brood/blocks/stack.h"

namespace brood {

namespace {

// As the public checkpoints of Mamba, of Llama-like Transformers and of the flash-linear-attention library
// spell their parameters.
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
constexpr Spelling kFla = {.embedding = "model.embeddings.weight",
                           .final_norm = "model.norm.weight",
                           .head = "lm_head.weight",
                           .layer = "model.layers.",
                           .mixer_norm = "attn_norm.weight",
                           .feed_norm = "mlp_norm.weight",
                           .mixer = "attn.",
                           .feed = "mlp."};
// RWKV-4 as Hugging Face has it, RWKV-7 as the flash-linear-attention library does.
constexpr Spelling kRwkv4 = {.embedding = "rwkv.embeddings.weight",
                             .final_norm = "rwkv.ln_out.weight",
                             .head = "head.weight",
                             .layer = "rwkv.blocks.",
                             .mixer_norm = "ln1.weight",
                             .feed_norm = "ln2.weight",
                             .mixer = "attention.",
                             .feed = "feed_forward.",
                             .embedding_norm = "rwkv.blocks.0.pre_ln.weight"};
constexpr Spelling kRwkv7 = {.embedding = "model.embeddings.weight",
                             .final_norm = "model.norm.weight",
                             .head = "lm_head.weight",
                             .layer = "model.layers.",
                             .mixer_norm = "attn_norm.weight",
                             .feed_norm = "ffn_norm.weight",
                             .mixer = "attn.",
                             .feed = "ffn.",
                             .embedding_norm = "model.layers.0.pre_norm.weight"};

// RWKV's authors draw embeddings from U(±1e-4), which the norm behind them makes larger, and the head from
// orthogonal matrices whose entries are of this size.
constexpr Habits kRwkv = {.norm = "layer",
                          .embedding_norm = true,
                          .tied_head = false,
                          .embedding_stddev = 1e-4f * 0.57735027f,  // of that uniform distribution: 1/√3
                          .head_gain = 0.5f};

}  // namespace

const std::vector<Part>& mixers() {
  static const std::vector<Part> all = {
      {"attention", make_attention},
      {"gated_deltanet", make_gated_deltanet},
      {"mamba", make_mamba},
      {"mamba2", make_mamba2},
      {"mamba3", make_mamba3},
      {"mcsd", make_mcsd},
      {"mingru", make_mingru},
      {"retention", make_retention},
      {"rwkv4", make_rwkv4},
      {"rwkv7", make_rwkv7},
      {"s4d", make_s4d},
  };
  return all;
}

const std::vector<Part>& feeds() {
  static const std::vector<Part> all = {
      {"relu2", make_relu2},       {"rwkv4_ffn", make_rwkv4_ffn}, {"rwkv7_ffn", make_rwkv7_ffn},
      {"selected", make_selected}, {"swiglu", make_swiglu},       {"switch", make_switch},
  };
  return all;
}

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> all = {
      {"bdh", bdh_frame, bdh_blocks},
      stack("gated_deltanet", "gated_deltanet", "swiglu", kFla),
      stack("mamba", "mamba", "none", kMamba),
      stack("mamba2", "mamba2", "none", kMamba),
      stack("mamba3", "mamba3", "none", kMamba),
      stack("mcsd", "mcsd", "swiglu", {}),
      stack("mingru", "mingru", "swiglu", {}),
      stack("retention", "retention", "swiglu", {}),
      stack("rwkv4", "rwkv4", "rwkv4_ffn", kRwkv4, kRwkv),
      stack("rwkv7", "rwkv7", "rwkv7_ffn", kRwkv7, kRwkv),
      stack("s4d", "s4d", "none", {}),
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
