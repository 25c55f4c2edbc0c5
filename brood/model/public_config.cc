#include "brood/model/public_config.h"

#include "brood/base/error.h"
#include "brood/base/json.h"
#include "brood/base/settings.h"

namespace brood {

namespace {

using nlohmann::json;

// Our own reading of the translation has narrower ranges; this one only keeps products from overflowing.
constexpr int64_t kMost = 1 << 20;

// "auto" stands for ceil(d_model / 16) there; here 0 does.
int64_t rank_of(json object, const std::string& key, const std::string& context) {
  if (object.contains(key) && object[key] == "auto") return 0;
  return Settings(std::move(object), context).integer(key, 0, 1, kMost);
}

// A layer norm in place of the RMS norm would need weights that we have not.
void need_rms_norm(Settings& s) {
  if (!s.flag("rms_norm", true))
    fail("{}: rms_norm is false, but only Mamba with RMSNorm is known", s.context());
}

// pathwaycom/bdh: BDHConfig, whose fields these are; the type is ours, since the repository stores none.
json from_bdh(const json& config, const std::string& context) {
  Settings s(config, context);
  s.text("model_type", "");
  const int64_t d_model = s.integer("n_embd", 256, 1, kMost);
  const json translated = {{"architecture", "bdh"},
                           {"vocab_size", s.integer("vocab_size", 256, 2, kMost)},
                           {"d_model", d_model},
                           {"n_layer", s.integer("n_layer", 6, 1, kMost)},
                           {"n_head", s.integer("n_head", 4, 1, kMost)},
                           {"n_neuron", d_model * s.integer("mlp_internal_dim_multiplier", 128, 1, kMost)},
                           {"dropout", s.number("dropout", 0.1, 0, 0.95)}};
  s.finish();
  return translated;
}

// transformers: MambaConfig. Settings::finish is not called: such a file says much that does not concern us.
json from_hugging_face(const json& config, const std::string& context) {
  Settings s(config, context);
  const std::string type = s.text("model_type", "");
  if (type == "bdh") return from_bdh(config, context);
  if (type != "mamba")
    fail("{}: model_type is {}, but only \"mamba\" (Mamba-1) and \"bdh\" can be imported", context,
         shown(type));
  need_rms_norm(s);
  s.choice("hidden_act", "silu", {"silu", "swish"});
  if (s.flag("use_bias", false))
    fail("{}: use_bias is true, but only Mamba without biases in its projections is known", context);
  if (!s.flag("use_conv_bias", true))
    fail("{}: use_conv_bias is false, but only Mamba with a bias in its convolution is known", context);
  const int64_t d_model = s.integer("hidden_size", 768, 1, kMost);
  const int64_t inner =
      s.integer("intermediate_size", s.integer("expand", 2, 1, kMost) * d_model, 1, int64_t(1) << 40);
  if (inner % d_model)
    fail("{}: intermediate_size {} is not a multiple of hidden_size {}", context, inner, d_model);
  return {{"architecture", "mamba"},
          {"vocab_size", s.integer("vocab_size", 50280, 2, kMost)},
          {"d_model", d_model},
          {"n_layer", s.integer("num_hidden_layers", 32, 1, kMost)},
          {"d_state", s.integer("state_size", 16, 1, kMost)},
          {"d_conv", s.integer("conv_kernel", 4, 1, kMost)},
          {"expand", inner / d_model},
          {"dt_rank", rank_of(config, "time_step_rank", context)},
          {"norm_eps", s.number("layer_norm_epsilon", 1e-5, 0, 1)},
          {"tie_embeddings", s.flag("tie_word_embeddings", true)}};
}

// state-spaces/mamba: MambaConfig, with the block's own keys under "ssm_cfg".
json from_state_spaces(const json& config, const std::string& context) {
  Settings s(config, context);
  need_rms_norm(s);
  Settings ssm(config.at("ssm_cfg"), context + ": ssm_cfg");
  const std::string layer = ssm.text("layer", "Mamba1");
  if (layer != "Mamba1")
    fail("{}: ssm_cfg has layer {}, but only Mamba-1 can be imported", context, shown(layer));
  if (s.integer("d_intermediate", 0, 0, kMost) != 0)
    fail("{}: d_intermediate is not 0, but only Mamba without MLPs between its layers is known", context);
  if (config.contains("attn_layer_idx") && !config["attn_layer_idx"].empty())
    fail("{}: attn_layer_idx is not empty, but only Mamba without attention layers is known", context);
  return {{"architecture", "mamba"},
          {"vocab_size", s.integer("vocab_size", 50277, 2, kMost)},
          {"d_model", s.integer("d_model", 2560, 1, kMost)},
          {"n_layer", s.integer("n_layer", 64, 1, kMost)},
          {"d_state", ssm.integer("d_state", 16, 1, kMost)},
          {"d_conv", ssm.integer("d_conv", 4, 1, kMost)},
          {"expand", ssm.integer("expand", 2, 1, kMost)},
          {"dt_rank", rank_of(config.at("ssm_cfg"), "dt_rank", context)},
          {"tie_embeddings", s.flag("tie_embeddings", true)}};
}

}  // namespace

json import_config(const json& config, const std::string& context) {
  if (!config.is_object()) fail("{}: must be a JSON object, but is {}", context, shown(config));
  if (config.contains("architecture")) return config;
  if (config.contains("model_type")) return from_hugging_face(config, context);
  if (config.contains("ssm_cfg")) return from_state_spaces(config, context);
  return config;  // the model says what it misses
}

}  // namespace brood
