// Comparison: models of about the same size trained on the same text, in the same order, with the same
// budget, and then measured in the same way, one after the other. What is found out about each stands in its
// ComparedModel from the moment that it is known; comparison_file.h keeps it, comparison_claims.h and
// comparison_report.h say what it means.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "brood/learn/trainer.h"
#include "brood/model/model.h"

namespace brood {

struct ComparisonSettings {
  TrainerSettings training;  // its directory is not looked at
  bool train = true;         // false: only speeds are measured, of weights as they are
  std::vector<int64_t> contexts{128, 1024, 8192, 65536};  // bytes before the clock starts, rising
  int64_t long_context = 1 << 20;  // measured, too, where the state does not grow with the context; 0: none
  double seconds = 0.5;            // that each speed is measured for, at least
};

struct CurvePoint {
  double seconds = 0;  // of training
  int64_t bytes = 0;
  double bits = 0;  // per byte, a running mean in training
};

struct ContextMeasure {
  int64_t context = 0;
  double read = 0, write = 0;  // bytes per second over a whole prompt, and after it one at a time
  int64_t state_bytes = 0;     // that the stream then holds
};

struct ComparedModel {
  std::string name;    // no other in the comparison has it
  std::string source;  // as load_model takes it
  nlohmann::json config;
  std::string weights;  // fingerprint of those that it begins with
  int64_t parameters = 0;
  int64_t weight_bytes() const { return parameters * int64_t(sizeof(float)); }

  // kTraining: its folder holds a training of this comparison, and the curve reaches at least as far.
  // kTrained: what training tells is there, the speeds are still to be measured.
  // kDiverged: training ran away at step diverged_at; nothing more will be found out.
  enum class Status { kWaiting, kTraining, kTrained, kFinished, kDiverged } status = Status::kWaiting;
  bool trained() const { return status == Status::kTrained || status == Status::kFinished; }

  int64_t steps = 0, bytes = 0, diverged_at = 0;
  double seconds = 0;                    // of training
  std::optional<double> train_rate;      // bytes per second
  std::optional<double> bits_per_byte;   // of text that was not learnt from
  std::vector<CurvePoint> curve;         // a few hundred points, the last one where training ended
  std::optional<int64_t> peak_memory;    // bytes held while training, the weights among them
  std::optional<double> awake;           // share of neurons awake while reading
  std::vector<ContextMeasure> contexts;  // those measured so far, rising
  std::optional<double> seconds_to(double bits) const;  // until the curve was there; none: it never was
};

struct Comparison {
  nlohmann::json conditions;  // what all models have in common (comparison_file.h)
  std::optional<double>
      loss;  // bits per byte to which times are told; none: the worst that a model ended with
  std::vector<ComparedModel> models;
  // `loss`, or that worst one, which all of them have reached; none where nothing was trained.
  std::optional<double> loss_in_question() const;
};

struct ComparisonTexts {
  std::span<const uint8_t> data, valid;  // either may be empty where nothing is trained
};

// All may be empty.
struct ComparisonEvents {
  std::function<bool()> stop;                             // asked often; true ends the work
  std::function<void(const std::string& what)> progress;  // what is being done; called often
  std::function<void()> keep;                             // the ComparedModel says more than it did
};

// A name for each source that no other has: its last part, as much of the path before it as tells two apart,
// and a number where nothing else does. Each is a file name and none is "comparison.json".
std::vector<std::string> comparison_names(std::span<const std::string> sources);

// What is known of a model before anything is done.
ComparedModel model_to_compare(const std::string& name, const std::string& source, const Model& model);

// Brings `model` from where it stands to kFinished or kDiverged, or until it is stopped. folder: where its
// weights are kept, at its end and now and then on the way; empty: nowhere, then a model cannot stand at
// kTraining or kTrained. A window of attention of kWholePast or more stands for the whole past and grows to
// the longest of the contexts; a shorter one is taken as meant. Throws Error.
void compare_one(ComparedModel& model, const std::string& folder, const ComparisonTexts& texts,
                 const ComparisonSettings& settings, const ComparisonEvents& events = {});
constexpr int64_t kWholePast = 1024;

}  // namespace brood
