// The options of training in batches, shared by the verbs that do it.
#pragma once

#include <cstdint>
#include <string>

#include "brood/learn/trainer.h"

namespace CLI {
class App;
}

namespace brood::cli {

// What is written on the command line; settings() puts it together once all of it is read.
struct TrainingOptions {
  int64_t steps = 1000;
  double minutes = 0;
  bool resume = false, overwrite = false;
  std::string precision = "f32", decay = "cosine";
  TrainerSettings trainer;  // its defaults are the options'

  TrainerSettings settings(uint64_t seed) const;
};

void add_length_options(CLI::App& app, TrainingOptions& options);  // --steps, --minutes, --batch, --precision
void add_chunk_options(CLI::App& app, TrainingOptions& options);   // --context, --carry
void add_optimiser_options(CLI::App& app, TrainingOptions& options);
// --save, --save-every, --resume, --overwrite
void add_save_options(CLI::App& app, TrainingOptions& options);

// "step 300 of 1000, loss ..., 51200 tokens/s, 12 s left"
std::string training_progress_text(const Trainer& trainer, const std::string& loss);

}  // namespace brood::cli
