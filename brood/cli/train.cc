// brood train: batch training on a fixed text.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

#include "brood/base/progress.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/save_folder.h"
#include "brood/cli/training_options.h"
#include "brood/cli/verb.h"
#include "brood/learn/trainer.h"
#include "brood/model/directory.h"

namespace brood::cli {
namespace {

constexpr const char* kTrainExamples =
    "Examples:\n"
    "  brood train --model bdh-s --data shakespeare.txt --hold-out 0.1 --steps 1200 --save bdh\n"
    "  brood train --model mamba-1m --data a.txt b.txt --valid c.txt --minutes 15 --carry --save mamba\n"
    "  brood train ... --save mamba --resume            the same command goes on exactly where it stopped\n"
    "  brood eval bdh --data other.txt                  what the result is worth\n"
    "Ctrl-C ends the training early: what was learnt is saved.\n";

struct TrainOptions {
  std::string model;
  std::vector<std::string> data, valid;
  double hold_out = 0;
  TrainingOptions training;
};

std::string loss_text(double nats) {
  return fmt::format("{:.3f} nats ({:.3f} bits per byte)", nats, nats / std::numbers::ln2);
}

void report(const Trainer& trainer, const Model& model, const Score& score, const TrainOptions& options,
            const Common& common) {
  const bool validated = score.scored > 0;
  say(fmt::format(
      "{} steps in {}: loss {:.4f} nats{}{}", trainer.steps(), duration_text(trainer.seconds()),
      trainer.loss(),
      validated ? fmt::format(", validation {:.4f} nats ({:.4f} bits per byte)", score.nats_per_byte(),
                              score.bits_per_byte())
                : "",
      options.training.trainer.directory.empty() ? "" : "; saved in " + trainer.settings().directory));
  if (!common.json) return;
  const nlohmann::json bits = validated ? nlohmann::json(score.bits_per_byte()) : nlohmann::json();
  write_json({{"steps", trainer.steps()},
              {"train_loss", trainer.loss()},
              {"valid_bits_per_byte", bits},
              {"tokens_per_second", rounded(trainer.tokens_per_second())},
              {"seconds", rounded(trainer.seconds())},
              {"parameters", model.parameter_count()}});
}

int train(const TrainOptions& options, const Common& common) {
  std::vector<uint8_t> data = read_all(options.data);
  std::vector<uint8_t> valid = read_all(options.valid);
  if (options.hold_out > 0) {
    const auto kept = data.end() - int64_t(double(data.size()) * options.hold_out);
    valid.assign(kept, data.end());
    data.erase(kept, data.end());
  }

  // Nothing saved yet: a training that was stopped before its first save begins at the beginning.
  const std::string& folder = options.training.trainer.directory;
  const bool resumes = options.training.resume && holds_model(folder);
  const std::string& source = resumes ? folder : options.model;
  LoadedModel loaded = load_model(source, common.seed);
  Trainer trainer(*loaded.model, data, options.training.settings(common.seed));
  if (resumes) trainer.resume(loaded);
  check_save_folder(folder, source, options.training.overwrite, "--resume");

  ProgressLine line(STDERR_FILENO);
  const Score score =
      trainer.run(valid, {.stop = interrupted,
                          .stepped =
                              [&] {
                                if (line.due())
                                  line.show(training_progress_text(trainer, loss_text(trainer.loss())));
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

void add_data_options(CLI::App& app, TrainOptions& options) {
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
  app.add_option("--valid-every", options.training.trainer.valid_every,
                 "steps between validations; 0: at the end only")
      ->capture_default_str()
      ->check(whole(0, kAnyCount))
      ->type_name("N");
  add_save_options(app, options.training);
}

}  // namespace

Action define_train(CLI::App& app, const Common& common) {
  auto options = std::make_shared<TrainOptions>();
  app.footer(kTrainExamples);
  add_data_options(app, *options);
  add_length_options(app, options->training);
  add_chunk_options(app, options->training);
  add_optimiser_options(app, options->training);
  return [options, &common] { return train(*options, common); };
}

}  // namespace brood::cli
