// Model directories: config.json, model.safetensors, and, where there is something to go on from,
// state.safetensors and optimizer.safetensors. A save is atomic and durable: a kill at any moment leaves the
// old or the new, whole.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "brood/model/model.h"
#include "brood/model/state.h"

namespace brood {

// What goes beside the weights when a run is to be continued.
struct Progress {
  int64_t steps = 0;     // optimiser steps taken
  nlohmann::json extra;  // the owner's own notes (position in the data, running loss, random state)
};

// Any of state, progress may be null; with progress the optimiser moments of the parameters are saved too.
// Throws Error with what was being written and the system's reason (disk full, no permission); the old model
// is intact.
void save_model(const std::string& directory, const Model& model, const State* state,
                const Progress* progress);

// A preset's name, a path of a JSON config, or a model directory.
// Throws Error: nothing of that name (with the presets listed), broken config, tensors missing, of the wrong
// shape, with NaN or infinity in them.
struct LoadedModel {
  std::unique_ptr<Model> model;
  std::unique_ptr<State> state;        // null when the directory has none
  std::unique_ptr<Progress> progress;  // null when the directory has none; moments are then in the parameters
  bool from_directory = false;
};
LoadedModel load_model(const std::string& preset_config_or_directory, uint64_t seed = 0);

}  // namespace brood
