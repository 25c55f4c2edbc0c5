// Configurations of public checkpoints, translated into ours.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace brood {

// A config.json as it was found: one of ours ("architecture") is given back as it is, one of Hugging Face's
// ("model_type" "mamba" or "mamba2"), of the state-spaces repository's ("ssm_cfg") or of Dragon Hatchling's
// ("model_type" "bdh" with the fields of its BDHConfig) is translated. Keys that only concern training,
// tokenizing or software there are dropped. Throws Error, beginning with `context`: not an object, another
// model type, a variant of Mamba that this one is not (biases, other activations, limited step sizes).
nlohmann::json import_config(const nlohmann::json& config, const std::string& context);

}  // namespace brood
