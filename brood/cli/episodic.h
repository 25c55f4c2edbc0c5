// The option --memory, and with which episodic memory a verb goes on.
#pragma once

#include <cstdint>
#include <memory>

#include "brood/learn/episodic_memory.h"

namespace CLI {
class App;
}

namespace brood::cli {

struct EpisodicOptions {
  // Megabytes; 0: none. What the user did not say is what a folder has, and else `usual`.
  int64_t megabytes = 0, usual = 0;
  bool said = false;
};
// usual: for a model without a memory of its own.
void add_episodic_option(CLI::App& app, EpisodicOptions& options, int64_t usual);
constexpr int64_t kUsualMemory = 16;

// The model's own, or one that is empty; null where there shall be none. Throws Error when the model's own is of
// another size than the user said, or cannot be read.
std::unique_ptr<EpisodicMemory> episodic_memory(const LoadedModel& loaded, const EpisodicOptions& options);
// The model's own, or null.
std::unique_ptr<EpisodicMemory> own_episodic_memory(const LoadedModel& loaded);

}  // namespace brood::cli
