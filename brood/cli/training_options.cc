#include "brood/cli/training_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>

#include "brood/base/progress.h"
#include "brood/cli/numbers.h"
#include "brood/cli/save_folder.h"

namespace brood::cli {
namespace {

const std::map<std::string, Precision> kTrainingPrecisions{{"f32", Precision::kF32},
                                                           {"bf16", Precision::kBf16}};
const std::map<std::string, Schedule::Shape> kShapes{{"cosine", Schedule::Shape::kCosine},
                                                     {"linear", Schedule::Shape::kLinear},
                                                     {"constant", Schedule::Shape::kConstant}};

}  // namespace

TrainerSettings TrainingOptions::settings(uint64_t seed) const {
  TrainerSettings result = trainer;
  result.seed = seed;
  result.precision = kTrainingPrecisions.at(precision);
  result.schedule.shape = kShapes.at(decay);
  result.seconds = 60 * minutes;
  result.schedule.total = steps;
  result.optimiser.learning_rate = result.schedule.peak;
  return result;
}

void add_length_options(CLI::App& app, TrainingOptions& options) {
  auto* steps = app.add_option("--steps", options.steps, "updates to make in all")
                    ->capture_default_str()
                    ->check(whole(0, kAnyCount))
                    ->type_name("N");
  app.add_option("--minutes", options.minutes, "train this long instead; the learning rate follows the clock")
      ->check(above_zero(1e7))
      ->type_name("M")
      ->excludes(steps);
  app.add_option("--batch", options.trainer.batch, "streams side by side")
      ->capture_default_str()
      ->check(whole(1, 65536))
      ->type_name("B");
  app.add_option("--precision", options.precision, "of the products; the weights stay f32")
      ->capture_default_str()
      ->check(CLI::IsMember(kTrainingPrecisions))
      ->type_name("PRECISION");
}

void add_chunk_options(CLI::App& app, TrainingOptions& options) {
  app.add_option("--context", options.trainer.context, "bytes of each stream in a step")
      ->capture_default_str()
      ->check(whole(1, 1 << 24))
      ->type_name("T");
  app.add_flag("--carry", options.trainer.carry,
               "read the text in order and carry the state on; else random windows from a zero state");
}

void add_optimiser_options(CLI::App& app, TrainingOptions& options) {
  TrainerSettings& trainer = options.trainer;
  const auto number = [&app](const char* name, double& value, double most, const char* purpose) {
    app.add_option(name, value, purpose)
        ->capture_default_str()
        ->check(real(0, most))
        ->type_name("X")
        ->group("Learning");
  };
  number("--learning-rate", trainer.schedule.peak, 10, "peak step size of AdamW");
  number("--final-rate", trainer.schedule.floor, 1, "learning rate at the end, as a share of the peak");
  number("--weight-decay", trainer.optimiser.weight_decay, 10, "weight decay of AdamW");
  number("--beta1", trainer.optimiser.beta1, 0.9999999, "memory of AdamW's mean");
  number("--beta2", trainer.optimiser.beta2, 0.9999999, "memory of AdamW's square");
  number("--clip", trainer.optimiser.clip, 1e9, "largest norm of the whole gradient; 0: any");
  app.add_option("--warmup", trainer.schedule.warmup, "steps until the peak")
      ->capture_default_str()
      ->check(whole(0, kAnyCount))
      ->type_name("N")
      ->group("Learning");
  app.add_option("--decay", options.decay, "course of the learning rate after the warm-up")
      ->capture_default_str()
      ->check(CLI::IsMember(kShapes))
      ->type_name("SHAPE")
      ->group("Learning");
}

void add_save_options(CLI::App& app, TrainingOptions& options) {
  add_save(app, options.trainer.directory, "keep the model in this folder");
  app.add_option("--save-every", options.trainer.save_every, "seconds between saves on the way")
      ->capture_default_str()
      ->check(above_zero(1e9))
      ->type_name("SECONDS");
  auto* resume = app.add_flag("--resume", options.resume, "go on with the training in the folder of --save")
                     ->needs("--save");
  app.add_flag("--overwrite", options.overwrite, "start over in a folder that holds another model")
      ->excludes(resume);
}

std::string training_progress_text(const Trainer& trainer, const std::string& loss) {
  return fmt::format("step {} of {}{}, loss {}, {:.0f} tokens/s, {} left", trainer.steps(),
                     trainer.settings().seconds > 0 ? "about " : "", trainer.planned_steps(), loss,
                     trainer.tokens_per_second(), duration_text(trainer.seconds_left()));
}

}  // namespace brood::cli
