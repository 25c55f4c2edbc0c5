// With which memory a verb begins: that of --state FILE, that of the stream that the model lived on, or none.
#pragma once

#include <string>

#include "brood/model/directory.h"
#include "brood/model/state_file.h"

namespace CLI {
class App;
}

namespace brood {
class EpisodicMemory;
}

namespace brood::cli {

struct MemoryOptions {
  std::string file;          // of `brood state save`; empty: none
  bool any_weights = false;  // whatever weights it was kept of
};
void add_memory_options(CLI::App& app, MemoryOptions& options);

// A stream's state and the token that it has seen but not read; −1: none.
struct Memory {
  State state;
  int32_t last = -1;
};

Memory no_memory(const Model& model);
// Throws Error when the file is not of this model, or of several streams.
Memory memory_of_file(const Model& model, const MemoryOptions& options);
// The end of the stream that the model lived on; no_memory() where there was none. So does its episodic memory,
// unless that is null, follow the stream to its end.
Memory lived_memory(LoadedModel& loaded, EpisodicMemory* episodes = nullptr);
bool has_lived(const LoadedModel& loaded);  // on one stream

}  // namespace brood::cli
