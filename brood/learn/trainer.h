// Trainer: learns in batches, from a fixed text many times over or from any other source of them (batches.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "brood/learn/batches.h"
#include "brood/learn/evaluate.h"
#include "brood/learn/optimiser.h"
#include "brood/model/directory.h"
#include "brood/model/model.h"

namespace brood {

struct TrainerSettings {
  int64_t batch = 8, context = 128;
  bool carry = false;
  Precision precision = Precision::kF32;
  OptimiserSettings optimiser;
  Schedule schedule;   // schedule.total: steps of the whole training
  double seconds = 0;  // above 0: the training takes this long instead, and the schedule follows the clock
  uint64_t seed = 0;

  int64_t valid_every = 0;  // steps between validations; 0: at the end only
  std::string directory;    // where the model is kept; empty: nowhere
  double save_every = 60;   // seconds between saves
};

// Called back from run(); any may be empty.
struct TrainerEvents {
  std::function<bool()> stop;  // asked after every step; true ends the training early
  std::function<void()> stepped;
  std::function<void(const Score&)> validated;
};

class Trainer {
 public:
  // `model` and `source` must outlive the trainer. Throws Error when the model's vocabulary has no room for
  // what the source gives.
  Trainer(Model& model, BatchSource& source, const TrainerSettings& settings);
  // From TextBatches over `data`, which must outlive the trainer; their errors, too.
  Trainer(Model& model, std::span<const uint8_t> data, const TrainerSettings& settings);

  // Goes on from a saved training: `loaded` must hold the model that this trainer was made with. Throws Error
  // when it was started with other settings of batch, context, carry, seed or with other data, and when these
  // cannot be the notes of a training.
  void resume(const LoadedModel& loaded);

  // Trains to the end, validating and saving on the way and at the end. Returns the last validation (nothing
  // scored where `valid` is empty or it was stopped).
  Score run(std::span<const uint8_t> valid, const TrainerEvents& events = {});

  void step();  // one update. Throws Diverged when the loss is no longer a number
  Score validate(std::span<const uint8_t> valid, const std::function<bool()>& stop = {});
  void save() const;  // to settings.directory. Throws Error as save_model does

  bool done() const;
  int64_t steps() const { return optimiser_.steps(); }
  int64_t planned_steps() const;  // an estimate where the clock decides
  int64_t tokens() const { return steps() * settings_.batch * settings_.context; }
  double loss() const { return mean_loss_; }  // nats per prediction, a mean over about 100 steps
  const TrainerSettings& settings() const { return settings_; }
  double seconds() const { return seconds_; }  // spent in steps, earlier runs included
  double seconds_left() const;
  double tokens_per_second() const;  // of this run

 private:
  Trainer(Model& model, std::unique_ptr<BatchSource> source, const TrainerSettings& settings);
  nlohmann::json identity() const;  // what a resumed training must have in common
  void check_identity(const nlohmann::json& theirs) const;
  nlohmann::json notes() const;

  Model& model_;
  std::unique_ptr<BatchSource> own_source_;  // null when it is the caller's
  BatchSource& source_;
  TrainerSettings settings_;
  Optimiser optimiser_;
  State state_;
  Tape tape_;
  std::vector<int32_t> tokens_, targets_;
  double mean_loss_ = 0;
  double seconds_ = 0, seconds_before_ = 0;
  int64_t steps_before_ = 0;
};

}  // namespace brood
