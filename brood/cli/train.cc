// brood train: batch training on a fixed text.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "brood/base/progress.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/save_folder.h"
#include "brood/cli/verb.h"
#include "brood/learn/trainer.h"
#include "brood/model/directory.h"

namespace brood::cli {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  brood train --model bdh-s --data shakespeare.txt --hold-out 0.1 --steps 1200 --save bdh\n"
    "  brood train --model mamba-1m --data a.txt b.txt --valid c.txt --minutes 15 --carry --save mamba\n"
    "  brood train ... --save mamba --resume            the same command goes on exactly where it stopped\n"
    "  brood eval bdh --data other.txt                  what the result is worth\n"
    "Ctrl-C ends the training early: what was learnt is saved.\n";

struct Options {
  std::string model;
  std::vector<std::string> data, valid;
  double hold_out = 0;
  int64_t steps = 1000;
  double minutes = 0;
  bool resume = false, overwrite = false;
  std::string precision = "f32", decay = "cosine";
  TrainerSettings trainer;
};

const std::map<std::string, Precision> kPrecisions{{"f32", Precision::kF32}, {"bf16", Precision::kBf16}};
const std::map<std::string, Schedule::Shape> kShapes{{"cosine", Schedule::Shape::kCosine},
                                                     {"linear", Schedule::Shape::kLinear},
                                                     {"constant", Schedule::Shape::kConstant}};

std::string progress_text(const Trainer& trainer) {
  return fmt::format("step {} of {}{}, loss {:.3f} nats ({:.3f} bits per byte), {:.0f} tokens/s, {} left",
                     trainer.steps(), trainer.settings().seconds > 0 ? "about " : "", trainer.planned_steps(),
                     trainer.loss(), trainer.loss() / std::numbers::ln2, trainer.tokens_per_second(),
                     duration_text(trainer.seconds_left()));
}

void report(const Trainer& trainer, const Model& model, const Score& score, const Options& options,
            const Common& common) {
  const bool validated = score.scored > 0;
  say(fmt::format("{} steps in {}: loss {:.4f} nats{}{}", trainer.steps(), duration_text(trainer.seconds()),
                  trainer.loss(),
                  validated ? fmt::format(", validation {:.4f} nats ({:.4f} bits per byte)",
                                          score.nats_per_byte(), score.bits_per_byte())
                            : "",
                  options.trainer.directory.empty() ? "" : "; saved in " + options.trainer.directory));
  if (!common.json) return;
  const nlohmann::json bits = validated ? nlohmann::json(score.bits_per_byte()) : nlohmann::json();
  write_json({{"steps", trainer.steps()},
              {"train_loss", trainer.loss()},
              {"valid_bits_per_byte", bits},
              {"tokens_per_second", rounded(trainer.tokens_per_second())},
              {"seconds", rounded(trainer.seconds())},
              {"parameters", model.parameter_count()}});
}

int train(const Options& options, const Common& common) {
  std::vector<uint8_t> data = read_all(options.data);
  std::vector<uint8_t> valid = read_all(options.valid);
  if (options.hold_out > 0) {
    const auto kept = data.end() - int64_t(double(data.size()) * options.hold_out);
    valid.assign(kept, data.end());
    data.erase(kept, data.end());
  }

  // Nothing saved yet: a training that was stopped before its first save begins at the beginning.
  const std::string& folder = options.trainer.directory;
  const bool resumes = options.resume && holds_model(folder);
  const std::string& source = resumes ? folder : options.model;
  LoadedModel loaded = load_model(source, common.seed);
  Trainer trainer(*loaded.model, data, options.trainer);
  if (resumes) trainer.resume(loaded);
  check_save_folder(folder, source, options.overwrite, "--resume");

  ProgressLine line(STDERR_FILENO);
  const Score score =
      trainer.run(valid, {.stop = interrupted,
                          .stepped =
                              [&] {
                                if (line.due()) line.show(progress_text(trainer));
                              },
                          .validated =
                              [&](const Score& s) {
                                line.note(fmt::format("step {}: validation {:.4f} nats, {:.4f} bits per byte",
                                                      trainer.steps(), s.nats_per_byte(), s.bits_per_byte()));
                              }});
  line.finish();
  report(trainer, *loaded.model, score, options, common);
  return interrupted() ? interrupted_exit_code() : 0;
}

void add_data_options(CLI::App& app, Options& options) {
  app.add_option("--model", options.model, "a preset, a JSON config, or a model folder to start from")
      ->required()
      ->type_name("PRESET|CONFIG|DIR");
  app.add_option("--data", options.data, "the text: files or folders, one after the other")
      ->required()
      ->type_name("FILE...");
  auto* valid = app.add_option("--valid", options.valid, "text to validate on")->type_name("FILE...");
  app.add_option("--hold-out", options.hold_out, "validate on this last share of the data instead")
      ->check(real(0, 0.9))
      ->type_name("SHARE")
      ->excludes(valid);
  app.add_option("--valid-every", options.trainer.valid_every,
                 "steps between validations; 0: at the end only")
      ->capture_default_str()
      ->check(whole(0, kAnyCount))
      ->type_name("N");
  app.add_option("--save", options.trainer.directory, "keep the model in this folder")->type_name("DIR");
  app.add_option("--save-every", options.trainer.save_every, "seconds between saves on the way")
      ->capture_default_str()
      ->check(above_zero(1e9))
      ->type_name("SECONDS");
  auto* resume = app.add_flag("--resume", options.resume, "go on with the training in the folder of --save")
                     ->needs("--save");
  app.add_flag("--overwrite", options.overwrite, "start over in a folder that holds another model")
      ->excludes(resume);
}

void add_length_options(CLI::App& app, Options& options) {
  auto* steps = app.add_option("--steps", options.steps, "updates to make in all")
                    ->capture_default_str()
                    ->check(whole(1, kAnyCount))
                    ->type_name("N");
  app.add_option("--minutes", options.minutes, "train this long instead; the learning rate follows the clock")
      ->check(above_zero(1e7))
      ->type_name("M")
      ->excludes(steps);
  app.add_option("--batch", options.trainer.batch, "streams side by side")
      ->capture_default_str()
      ->check(whole(1, 65536))
      ->type_name("B");
  app.add_option("--context", options.trainer.context, "bytes of each stream in a step")
      ->capture_default_str()
      ->check(whole(1, 1 << 24))
      ->type_name("T");
  app.add_flag("--carry", options.trainer.carry,
               "read the text in order and carry the state on; else random windows from a zero state");
  app.add_option("--precision", options.precision, "of the products; the weights stay f32")
      ->capture_default_str()
      ->check(CLI::IsMember(kPrecisions))
      ->type_name("PRECISION");
}

void add_optimiser_options(CLI::App& app, Options& options) {
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

}  // namespace

Action define_train(CLI::App& app, const Common& common) {
  auto options = std::make_shared<Options>();
  app.footer(kExamples);
  add_data_options(app, *options);
  add_length_options(app, *options);
  add_optimiser_options(app, *options);
  return [options, &common] {
    options->trainer.seed = common.seed;
    options->trainer.precision = kPrecisions.at(options->precision);
    options->trainer.schedule.shape = kShapes.at(options->decay);
    options->trainer.seconds = 60 * options->minutes;
    options->trainer.schedule.total = options->steps;
    options->trainer.optimiser.learning_rate = options->trainer.schedule.peak;
    return train(*options, common);
  };
}

}  // namespace brood::cli
