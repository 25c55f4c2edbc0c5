// With what `brood live` begins: a model from nothing, one to go on with, or the very run that the same command began
// before and that was cut off.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "brood/cli/episodic.h"
#include "brood/cli/memory.h"
#include "brood/learn/live_folder.h"
#include "brood/model/directory.h"

namespace brood::cli {

struct LiveStart {
  std::string model, in = "-", save;
  bool overwrite = false;
  MemoryOptions memory;
  EpisodicOptions episodic;
};

struct LiveBeginning {
  std::unique_ptr<FileLock> alone;  // nobody else goes on with what --save holds; may be null
  LoadedModel loaded;
  Memory memory;                             // what the model remembers
  std::unique_ptr<EpisodicMemory> episodes;  // what it saw once; may be null
  std::string begun_with;                    // tells this beginning from others
  nlohmann::json learner;                    // notes of the learner, whose stream is gone on with; null: none
  nlohmann::json optimiser;  // notes of another stream, of which only the optimiser is taken; null: none
  std::optional<StoredStream> stream;  // of the folder --save, up to the end of its journal
};

// Throws Error, also when --save would replace another model.
LiveBeginning begin_live(const LiveStart& start, uint64_t seed);

}  // namespace brood::cli
