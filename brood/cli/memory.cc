#include "brood/cli/memory.h"

#include <CLI/CLI.hpp>

#include "brood/learn/episodic_memory.h"
#include "brood/learn/evaluate.h"
#include "brood/learn/live.h"

namespace brood::cli {

void add_memory_options(CLI::App& app, MemoryOptions& options) {
  auto* file = app.add_option("--state", options.file,
                              "begin with the memory in this file (brood state save makes such files)")
                   ->type_name("FILE")
                   ->group("Memory");
  app.add_flag("--any-weights", options.any_weights,
               "take it though the model's weights have changed since it was kept")
      ->needs(file)
      ->group("Memory");
}

Memory no_memory(const Model& model) { return {model.make_state(1), -1}; }

Memory memory_of_file(const Model& model, const MemoryOptions& options) {
  KeptState kept = read_kept_state(options.file, model, options.any_weights);
  if (kept.state.streams != 1)
    fail("{}: it holds {} streams; brood state fork {} --stream 0 -o ONE takes one out of it", options.file,
         kept.state.streams, options.file);
  return {std::move(kept.state), kept.last[0]};
}

bool has_lived(const LoadedModel& loaded) { return loaded.state && loaded.state->streams == 1; }

Memory lived_memory(LoadedModel& loaded, EpisodicMemory* episodes) {
  if (!has_lived(loaded)) return no_memory(*loaded.model);
  Memory memory{loaded.state->clone(), -1};
  if (!loaded.progress || !loaded.progress->extra.contains("live")) return memory;
  // The last byte of the stream was scored but not yet read, and others may wait with it.
  LiveSettings settings;
  settings.chunk = reading_chunk(*loaded.model);
  settings.learning = settings.remembering = false;
  settings.rehearsals = 0;
  LiveLearner reader(*loaded.model, memory.state, settings, episodes);
  reader.restore(loaded.progress->extra["live"]);
  reader.flush();
  memory.last = reader.notes().at("last").get<int32_t>();
  return memory;
}

}  // namespace brood::cli
