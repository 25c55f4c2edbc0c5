// Model directories (docs/formats/model-directory.md): config.json, model.safetensors, and, where there is
// something to go on from, state.safetensors, optimizer.safetensors, memory.safetensors and rehearsal.safetensors. A save is atomic and durable over all
// of them: a kill at any moment leaves the old or the new, whole (base/directory_update.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "brood/base/file_system.h"
#include "brood/model/model.h"
#include "brood/model/safetensors.h"
#include "brood/model/state.h"

namespace brood {

// What goes beside the weights when a run is to be continued.
struct Progress {
  int64_t steps = 0;     // optimiser steps taken
  nlohmann::json extra;  // the owner's own notes (position in the data, running loss, random state)
};

// Writes the memory that goes with a model (learn/episodic_memory.h) to this path, and names the save in it.
using MemoryWriter =
    std::function<void(const std::string& path, const std::string& save_id, FileSystem& files)>;

// rehearsal: what of the distant past is rehearsed (learn/reservoir.h), in the same way.
// Any of state, progress, memory, rehearsal may be null; with progress the optimiser moments of the parameters are saved too.
// Other files in the directory stay. Throws Error with what was being written and the system's reason (disk
// full, no permission, another save under way); Diverged (diverged.h) with which numbers are no longer finite;
// the old model is intact.
void save_model(const std::string& directory, const Model& model, const State* state,
                const Progress* progress, FileSystem& files = FileSystem::real(),
                const MemoryWriter& memory = {}, const MemoryWriter& rehearsal = {});

// Throws Error, as save_model would, when nothing can be saved there: to be known before hours of work. Makes
// the directory when it is not there, and leaves what is in it.
void check_writable(const std::string& directory, FileSystem& files = FileSystem::real());

// Whether a save would replace a model: config.json or weights are there.
bool holds_model(const std::string& directory);

struct LoadedModel {
  std::unique_ptr<Model> model;
  std::unique_ptr<State> state;        // null when the directory has none
  std::unique_ptr<Progress> progress;  // null when the directory has none; moments are then in the parameters
  std::unique_ptr<SafetensorsFile> memory, rehearsal;  // not looked at yet; null when the directory has none
  bool is_public = false;  // a directory in another program's layout, which a save would rewrite
};

// A model directory, a file of rwkv.cpp (rwkv_file.h), a JSON configuration, or the name of a preset, in this
// order: what exists under that path wins. Public checkpoints load unchanged: public_config.h says which, and
// weights may be F32, BF16, F16 or F64, the embedding spelt either way, a tied head there or not, the vocabulary
// padded (padding is dropped). Throws Error: nothing of that name (with the presets listed), a broken
// configuration, tensors missing, unknown, of the wrong shape, with NaN or infinity in them, files of different
// saves beside each other.
LoadedModel load_model(const std::string& preset_config_or_directory, uint64_t seed = 0);

// What a JSON configuration or a preset says, before defaults are written out: a model of it may be made with
// some keys changed. Throws Error as load_model does.
nlohmann::json load_config(const std::string& preset_or_config);

}  // namespace brood
