#include "brood/model/public_config.h"

#include <algorithm>
#include <cmath>
#include <string_view>

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

// The ways in which an infinite number is written: not at all, as Python's json does (see parse_config_text),
// as transformers has done since its version 5, or as a number that no step size reaches.
bool means_infinity(const json& value) {
  static const json tagged = {{"__float__", "Infinity"}};
  return value.is_null() || value == "inf" || value == tagged || (value.is_number() && value > 1e9);
}

// Mamba-2 may clamp its step sizes; checkpoints say [0, infinity] or nothing.
void need_no_limit(const json& config, const std::string& key, const std::string& context) {
  if (!config.contains(key) || config[key].is_null()) return;
  const json& limit = config[key];
  if (!limit.is_array() || limit.size() != 2 || limit[0] != 0 || !means_infinity(limit[1]))
    fail("{}: {} is {}, but only Mamba-2 with unlimited step sizes is known", context, key, shown(limit));
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

// A key that may also be null, which stands for the default.
bool says(const json& config, const char* key) { return config.contains(key) && !config[key].is_null(); }

// transformers: RwkvConfig (RWKV-4).
json from_rwkv4(const json& config, const std::string& context) {
  Settings s(config, context);
  const int64_t d_model = s.integer("hidden_size", 4096, 1, kMost);
  if (says(config, "attention_hidden_size") && s.integer("attention_hidden_size", 0, 1, kMost) != d_model)
    fail(
        "{}: attention_hidden_size is not hidden_size, but only RWKV-4 with the same width throughout is "
        "known",
        context);
  return {
      {"architecture", "rwkv4"},
      {"vocab_size", s.integer("vocab_size", 50277, 2, kMost)},
      {"d_model", d_model},
      {"n_layer", s.integer("num_hidden_layers", 32, 1, kMost)},
      {"d_ff", says(config, "intermediate_size") ? s.integer("intermediate_size", 0, 1, kMost) : 4 * d_model},
      {"norm_eps", s.number("layer_norm_epsilon", 1e-5, 0, 1)},
      {"tie_embeddings", s.flag("tie_word_embeddings", false)}};
}

// Every entry of a list of widths, or the one width, is the model's.
bool all_are(const json& widths, int64_t width) {
  if (!widths.is_array()) return widths == width;
  return std::all_of(widths.begin(), widths.end(), [&](const json& one) { return one == width; });
}

// flash-linear-attention: RWKV7Config.
json from_rwkv7(const json& config, const std::string& context) {
  Settings s(config, context);
  const int64_t d_model = s.integer("hidden_size", 2048, 1, kMost);
  s.choice("hidden_act", "sqrelu", {"sqrelu"});
  if (!s.flag("norm_bias", true))
    fail("{}: norm_bias is false, but only RWKV-7 with biases in its norms is known", context);
  if (says(config, "attn"))
    fail("{}: attn is {}, but only RWKV-7 without attention layers is known", context, shown(config["attn"]));
  if (says(config, "value_dim") && !all_are(config["value_dim"], d_model))
    fail("{}: value_dim is {}, but only RWKV-7 with values as wide as hidden_size is known", context,
         shown(config["value_dim"]));
  const auto or_default = [&](const char* key, int64_t absent) {
    return says(config, key) ? s.integer(key, 0, 1, kMost) : absent;
  };
  const double ratio = says(config, "hidden_ratio") ? s.number("hidden_ratio", 0, 1e-3, 1e3) : 4.0;
  const auto rounded = int64_t(std::ceil(std::floor(double(d_model) * ratio) / 32)) * 32;
  int64_t head_dim = or_default("head_dim", 0);
  if (head_dim == 0) head_dim = config.contains("head_dim") ? d_model / or_default("num_heads", d_model) : 64;
  json translated = {{"architecture", "rwkv7"},
                     {"vocab_size", s.integer("vocab_size", 32000, 2, kMost)},
                     {"d_model", d_model},
                     {"n_layer", s.integer("num_hidden_layers", 24, 1, kMost)},
                     {"d_ff", or_default("intermediate_size", rounded)},
                     {"head_dim", head_dim},
                     {"embedding_norm", s.flag("norm_first", true)},
                     {"norm_eps", s.number("norm_eps", 1e-5, 0, 1)},
                     {"tie_embeddings", s.flag("tie_word_embeddings", false)}};
  // Null: by the authors' rule, as 0 is here.
  for (const char* rank : {"decay_low_rank_dim", "a_low_rank_dim", "v_low_rank_dim", "gate_low_rank_dim"})
    translated[rank] = or_default(rank, 0);
  return translated;
}

// transformers: MambaConfig. Settings::finish is not called: such a file says much that does not concern us.
json from_hugging_face(const json& config, const std::string& context) {
  Settings s(config, context);
  const std::string type = s.text("model_type", "");
  if (type == "bdh") return from_bdh(config, context);
  if (type == "rwkv") return from_rwkv4(config, context);
  if (type == "rwkv7" || type == "rwkv7_fla") return from_rwkv7(config, context);
  if (type != "mamba" && type != "mamba2")
    fail(
        "{}: model_type is {}, but only \"mamba\", \"mamba2\", \"rwkv\", \"rwkv7\" and \"bdh\" can be "
        "imported",
        context, shown(type));
  need_rms_norm(s);
  s.choice("hidden_act", "silu", {"silu", "swish"});
  if (s.flag("use_bias", false))
    fail("{}: use_bias is true, but only Mamba without biases in its projections is known", context);
  if (!s.flag("use_conv_bias", true))
    fail("{}: use_conv_bias is false, but only Mamba with a bias in its convolution is known", context);
  const bool second = type == "mamba2";
  const int64_t d_model = s.integer("hidden_size", second ? 4096 : 768, 1, kMost);
  const int64_t expand = s.integer("expand", 2, 1, kMost);
  json translated = {{"architecture", type},
                     {"vocab_size", s.integer("vocab_size", second ? 32768 : 50280, 2, kMost)},
                     {"d_model", d_model},
                     {"n_layer", s.integer("num_hidden_layers", second ? 64 : 32, 1, kMost)},
                     {"d_state", s.integer("state_size", second ? 128 : 16, 1, kMost)},
                     {"d_conv", s.integer("conv_kernel", 4, 1, kMost)},
                     {"norm_eps", s.number("layer_norm_epsilon", 1e-5, 0, 1)},
                     {"tie_embeddings", s.flag("tie_word_embeddings", !second)}};
  if (second) {
    const int64_t head_dim = s.integer("head_dim", 64, 1, kMost),
                  heads = s.integer("num_heads", 128, 1, kMost);
    if (heads * head_dim != expand * d_model)
      fail("{}: num_heads·head_dim is {}, but expand·hidden_size is {}", context, heads * head_dim,
           expand * d_model);
    need_no_limit(config, "time_step_limit", context);
    translated["expand"] = expand;
    translated["head_dim"] = head_dim;
    translated["n_groups"] = s.integer("n_groups", 8, 1, kMost);
    return translated;
  }
  const int64_t inner = s.integer("intermediate_size", expand * d_model, 1, int64_t(1) << 40);
  if (inner % d_model)
    fail("{}: intermediate_size {} is not a multiple of hidden_size {}", context, inner, d_model);
  translated["expand"] = inner / d_model;
  translated["dt_rank"] = rank_of(config, "time_step_rank", context);
  return translated;
}

// state-spaces/mamba: MambaConfig, with the block's own keys under "ssm_cfg".
json from_state_spaces(const json& config, const std::string& context) {
  Settings s(config, context);
  need_rms_norm(s);
  Settings ssm(config.at("ssm_cfg"), context + ": ssm_cfg");
  const std::string layer = ssm.text("layer", "Mamba1");
  if (layer != "Mamba1" && layer != "Mamba2")
    fail("{}: ssm_cfg has layer {}, but only Mamba1 and Mamba2 can be imported", context, shown(layer));
  if (s.integer("d_intermediate", 0, 0, kMost) != 0)
    fail("{}: d_intermediate is not 0, but only Mamba without MLPs between its layers is known", context);
  if (config.contains("attn_layer_idx") && !config["attn_layer_idx"].empty())
    fail("{}: attn_layer_idx is not empty, but only Mamba without attention layers is known", context);
  const bool second = layer == "Mamba2";
  json translated = {{"architecture", second ? "mamba2" : "mamba"},
                     {"vocab_size", s.integer("vocab_size", 50277, 2, kMost)},
                     {"d_model", s.integer("d_model", 2560, 1, kMost)},
                     {"n_layer", s.integer("n_layer", 64, 1, kMost)},
                     {"d_state", ssm.integer("d_state", second ? 128 : 16, 1, kMost)},
                     {"d_conv", ssm.integer("d_conv", 4, 1, kMost)},
                     {"expand", ssm.integer("expand", 2, 1, kMost)},
                     {"tie_embeddings", s.flag("tie_embeddings", true)}};
  if (second) {
    need_no_limit(config.at("ssm_cfg"), "dt_limit", context);
    translated["head_dim"] = ssm.integer("headdim", 64, 1, kMost);
    translated["n_groups"] = ssm.integer("ngroups", 1, 1, kMost);
  } else {
    translated["dt_rank"] = rank_of(config.at("ssm_cfg"), "dt_rank", context);
  }
  return translated;
}

}  // namespace

json import_config(const json& config, const std::string& context) {
  if (!config.is_object()) fail("{}: must be a JSON object, but is {}", context, shown(config));
  if (config.contains("architecture")) return config;
  if (config.contains("model_type")) return from_hugging_face(config, context);
  if (config.contains("ssm_cfg")) return from_state_spaces(config, context);
  return config;  // the model says what it misses
}

json parse_config_text(std::string text, const std::string& context) {
  constexpr std::string_view kInfinity = "Infinity", kInstead = "\"inf\"   ";
  static_assert(kInfinity.size() == kInstead.size());  // columns stay
  bool quoted = false;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '"') quoted = !quoted;
    if (quoted && text[at] == '\\') ++at;  // an escaped quote ends nothing
    if (!quoted && text.compare(at, kInfinity.size(), kInfinity) == 0) {
      std::copy(kInstead.begin(), kInstead.end(), text.begin() + std::ptrdiff_t(at));
      at += kInfinity.size() - 1;
    }
  }
  return parse_json(text, context);
}

json import_config_text(std::string text, const std::string& context) {
  return import_config(parse_config_text(std::move(text), context), context);
}

}  // namespace brood
