#include "brood/learn/comparison_training.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>
#include <utility>

#include "brood/base/memory.h"
#include "brood/base/progress.h"
#include "brood/model/directory.h"
#include "brood/model/diverged.h"

namespace brood {
namespace {

using Clock = std::chrono::steady_clock;
using Status = ComparedModel::Status;

constexpr size_t kMostPoints = 400;  // of a curve

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Points of a training at every 2^n-th step, where n grows so that they stay few.
class Curve {
 public:
  Curve(std::vector<CurvePoint>& points, int64_t bytes_per_step)
      : points_(points), bytes_per_step_(bytes_per_step) {}

  // Points beyond are of steps whose weights were never saved.
  void go_on_from(int64_t bytes) {
    std::erase_if(points_, [&](const CurvePoint& point) { return point.bytes > bytes; });
    if (!points_.empty()) every_ = std::max<int64_t>(1, points_[0].bytes / bytes_per_step_);
  }
  void add(const CurvePoint& point) {
    last_ = point;
    if (!stays(point)) return;
    points_.push_back(point);
    if (points_.size() < kMostPoints) return;
    every_ *= 2;
    std::erase_if(points_, [&](const CurvePoint& p) { return !stays(p); });
  }
  void finish() {
    if (!points_.empty() && points_.back().bytes < last_.bytes) points_.push_back(last_);
  }

 private:
  bool stays(const CurvePoint& point) const { return point.bytes / bytes_per_step_ % every_ == 0; }

  std::vector<CurvePoint>& points_;
  CurvePoint last_;
  int64_t bytes_per_step_, every_ = 1;
};

// One model's training, from its beginning or from where its folder left it.
class Training {
 public:
  Training(ComparedModel& result, const std::string& folder, const ComparisonTexts& texts,
           const ComparisonSettings& settings, const ComparisonEvents& events)
      : result_(result),
        valid_(texts.valid),
        events_(events),
        resumes_(result.status == Status::kTraining),
        loaded_(load_model(resumes_ ? folder : result.source, settings.training.seed)),
        trainer_(*loaded_.model, texts.data, in_folder(settings.training, folder)),
        curve_(result.curve, settings.training.batch * settings.training.context) {
    if (!resumes_) return;
    if (loaded_.model->config() != result.config)
      fail("compare: {} does not hold the model that was being trained there; start over with --overwrite",
           folder);
    trainer_.resume(loaded_);
    curve_.go_on_from(trainer_.tokens());
    diverged_at_ = trainer_.steps();
  }

  // The trained model; null when it was stopped or diverged.
  std::unique_ptr<Model> run() {
    try {
      begin();
      learn();
      // First what is known and then the weights: a kill in between leaves a curve that is too long, which
      // go_on_from() mends.
      keep();
      save();
      if (stopped() || !score()) return nullptr;
    } catch (const Diverged&) {
      result_.diverged_at = diverged_at_;
      result_.status = Status::kDiverged;
      keep();
      return nullptr;
    }
    result_.status = Status::kTrained;
    keep();
    return std::move(loaded_.model);
  }

 private:
  static TrainerSettings in_folder(TrainerSettings settings, const std::string& folder) {
    settings.directory = folder;
    return settings;
  }
  bool stopped() const { return events_.stop && events_.stop(); }

  // What another comparison left in the folder is replaced before the status says whose it is.
  void begin() {
    if (resumes_) return;
    save();
    result_.status = Status::kTraining;
    keep();
  }

  void learn() {
    auto saved = Clock::now();
    while (!trainer_.done() && !stopped()) {
      diverged_at_ = trainer_.steps() + 1;
      trainer_.step();
      const CurvePoint now{trainer_.seconds(), trainer_.tokens(), trainer_.loss() / std::numbers::ln2};
      curve_.add(now);
      tell(now.bits);
      if (since(saved) < trainer_.settings().save_every) continue;
      keep();
      save();
      saved = Clock::now();
    }
    if (trainer_.done()) curve_.finish();
  }

  // False when it was stopped.
  bool score() {
    if (valid_.empty()) return true;
    if (events_.progress) events_.progress("scoring");
    const Score score = trainer_.validate(valid_, events_.stop);
    if (stopped()) return false;
    if (!std::isfinite(score.nats)) throw Diverged("compare: the score is not a number");
    if (score.scored > 0) result_.bits_per_byte = score.bits_per_byte();
    return true;
  }

  void save() const {
    if (!trainer_.settings().directory.empty()) trainer_.save();
  }
  void keep() {
    result_.steps = trainer_.steps();
    result_.bytes = trainer_.tokens();
    result_.seconds = trainer_.seconds();
    if (result_.seconds > 0) result_.train_rate = double(result_.bytes) / result_.seconds;
    if (memory_.known()) result_.peak_memory = std::max(result_.peak_memory.value_or(0), memory_.bytes());
    if (events_.keep) events_.keep();
  }
  void tell(double bits) const {
    if (!events_.progress) return;
    events_.progress(fmt::format("step {} of {}{}, {:.3f} bits per byte, {:.0f} bytes/s, {} left",
                                 trainer_.steps(), trainer_.settings().seconds > 0 ? "about " : "",
                                 trainer_.planned_steps(), bits, trainer_.tokens_per_second(),
                                 duration_text(trainer_.seconds_left())));
  }

  ComparedModel& result_;
  std::span<const uint8_t> valid_;
  const ComparisonEvents& events_;
  const bool resumes_;
  const PeakMemory memory_;  // before the weights are there, so that they count
  LoadedModel loaded_;
  Trainer trainer_;
  Curve curve_;
  int64_t diverged_at_ = 0;
};

}  // namespace

std::unique_ptr<Model> train_compared(ComparedModel& model, const std::string& folder,
                                      const ComparisonTexts& texts, const ComparisonSettings& settings,
                                      const ComparisonEvents& events) {
  return Training(model, folder, texts, settings, events).run();
}

}  // namespace brood
