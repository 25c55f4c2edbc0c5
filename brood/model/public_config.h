// Configurations of public checkpoints, translated into ours.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace brood {

// A config.json as it was found: one of ours ("architecture") is given back as it is, one of Hugging Face's
// ("model_type" "mamba", "mamba2", or "rwkv" for RWKV-4), of the flash-linear-attention library's ("rwkv7"), of
// the state-spaces repository's ("ssm_cfg") or of Dragon Hatchling's ("bdh" with the fields of its BDHConfig) is
// translated. Keys that only concern training, tokenizing or software there are dropped. Throws Error, beginning
// with `context`: not an object, another model type, a variant that these are not (biases, other activations,
// limited step sizes, layers of another kind in between).
nlohmann::json import_config(const nlohmann::json& config, const std::string& context);

// The text of such a file, not yet translated. Python writes an infinite number as a bare Infinity, which JSON
// does not know; here, and only here, it is read as the text "inf".
nlohmann::json parse_config_text(std::string text, const std::string& context);
// Both.
nlohmann::json import_config_text(std::string text, const std::string& context);

}  // namespace brood
