#include "brood/learn/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "brood/base/error.h"
#include "brood/base/json.h"
#include "brood/model/diverged.h"

namespace brood {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMeanSteps = 100;  // the loss shown is a mean over about so many steps

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double noted(const nlohmann::json& notes, const char* key) {
  const auto found = notes.find(key);
  if (found == notes.end() || !found->is_number() || !(found->get<double>() >= 0)) {
    fail("train: the notes saved with the model say no {}, or one that cannot be: start anew", key);
  }
  return found->get<double>();
}

}  // namespace

Trainer::Trainer(Model& model, BatchSource& source, const TrainerSettings& settings)
    : model_(model),
      source_(source),
      settings_(settings),
      optimiser_(model.parameters(), settings.optimiser),
      state_(model.make_state(settings.batch)) {
  if (model.frame().vocab_size < source.vocab_size()) {
    fail("train: the model knows {} tokens and this training needs {}: set \"vocab_size\" to {} or more",
         model.frame().vocab_size, source.vocab_size(), source.vocab_size());
  }
  const auto rows = size_t(settings.batch * settings.context);
  tokens_.resize(rows);
  targets_.resize(rows);
}

Trainer::Trainer(Model& model, std::unique_ptr<BatchSource> source, const TrainerSettings& settings)
    : Trainer(model, *source, settings) {
  own_source_ = std::move(source);
}

Trainer::Trainer(Model& model, std::span<const uint8_t> data, const TrainerSettings& settings)
    : Trainer(model,
              std::make_unique<TextBatches>(data, settings.batch, settings.context, settings.carry,
                                            settings.seed),
              settings) {}

void Trainer::step() {
  const auto begin = Clock::now();
  if (source_.fill(steps(), tokens_, targets_)) state_.reset();
  tape_.start(true, settings_.precision);
  const Var logits = model_.forward(
      tape_, state_, tokens_, settings_.batch, settings_.context,
      {.training = true, .keep_state = settings_.carry, .seed = step_seed(settings_.seed, steps())});
  const Var loss = cross_entropy(tape_, logits, targets_);
  const auto asked =
      double(std::count_if(targets_.begin(), targets_.end(), [](int32_t t) { return t >= 0; }));
  BROOD_ASSERT(asked > 0);
  const double nats = total_nats(loss) / asked;
  if (!std::isfinite(nats)) {
    throw Diverged(
        fmt::format("train: the loss is not a number any more at step {}: a smaller --learning-rate or a "
                    "longer --warmup helps",
                    steps() + 1));
  }
  tape_.backward(loss, 1.0f / float(asked));

  Schedule schedule = settings_.schedule;
  schedule.total = planned_steps();
  if (steps() == 0) forget_moments(model_.parameters());
  optimiser_.step(schedule.at(steps()));
  const double weight = 1 / std::min(double(steps()), kMeanSteps);
  mean_loss_ += weight * (nats - mean_loss_);
  seconds_ += since(begin);
}

int64_t Trainer::planned_steps() const {
  if (settings_.seconds <= 0) return settings_.schedule.total;
  if (steps() == 0 || seconds_ <= 0) return std::max<int64_t>(settings_.schedule.total, 1);
  return std::max(steps() + 1, int64_t(double(steps()) * settings_.seconds / seconds_));
}

bool Trainer::done() const {
  return settings_.seconds > 0 ? seconds_ >= settings_.seconds : steps() >= settings_.schedule.total;
}

double Trainer::seconds_left() const {
  if (settings_.seconds > 0) return std::max(settings_.seconds - seconds_, 0.0);
  const double rate = double(steps() - steps_before_) / (seconds_ - seconds_before_);
  return double(std::max<int64_t>(settings_.schedule.total - steps(), 0)) / rate;
}

double Trainer::tokens_per_second() const {
  if (steps() == steps_before_) return 0;
  return double((steps() - steps_before_) * settings_.batch * settings_.context) /
         (seconds_ - seconds_before_);
}

Score Trainer::validate(std::span<const uint8_t> valid, const std::function<bool()>& stop) {
  if (!settings_.carry) {
    return score_windows(model_, valid, settings_.batch, settings_.context, settings_.precision, stop);
  }
  State state = model_.make_state(1);
  return score_stream(model_, state, valid, settings_.context, stop);
}

Score Trainer::run(std::span<const uint8_t> valid, const TrainerEvents& events) {
  const auto stop = [&] { return events.stop && events.stop(); };
  auto saved = Clock::now();
  Score score;
  while (!done() && !stop()) {
    step();
    if (events.stepped) events.stepped();
    if (settings_.valid_every > 0 && steps() % settings_.valid_every == 0 && !valid.empty() && !done()) {
      score = validate(valid, events.stop);
      if (!stop() && events.validated) events.validated(score);
    }
    if (!settings_.directory.empty() && since(saved) >= settings_.save_every) {
      save();
      saved = Clock::now();
    }
  }
  if (!settings_.directory.empty()) save();
  if (valid.empty() || stop()) return {};
  score = validate(valid, events.stop);
  if (stop()) return {};
  if (events.validated) events.validated(score);
  return score;
}

nlohmann::json Trainer::identity() const {
  nlohmann::json identity = source_.identity();
  identity.update(nlohmann::json{{"batch", settings_.batch},
                                 {"context", settings_.context},
                                 {"carry", settings_.carry},
                                 {"seed", settings_.seed}});
  return identity;
}

nlohmann::json Trainer::notes() const {
  return {{"training", identity()}, {"mean_loss", mean_loss_}, {"seconds", seconds_}};
}

void Trainer::save() const {
  const Progress progress{steps(), notes()};
  save_model(settings_.directory, model_, settings_.carry ? &state_ : nullptr, &progress);
}

void Trainer::check_identity(const nlohmann::json& theirs) const {
  const auto mine = identity();
  for (const auto& [key, value] : mine.items()) {
    const auto found = theirs.find(key);
    if (found == theirs.end() || *found != value) {
      fail("train: the training to resume had {} {}, not {}: give the same, or start anew", key,
           found == theirs.end() ? "unknown" : shown(*found), value.dump());
    }
  }
}

void Trainer::resume(const LoadedModel& loaded) {
  BROOD_ASSERT(loaded.model.get() == &model_);
  if (!loaded.progress || !loaded.progress->extra.contains("training")) {
    fail("train: nothing to resume: this model was not saved by a training");
  }
  const auto& notes = loaded.progress->extra;
  check_identity(notes["training"]);
  mean_loss_ = noted(notes, "mean_loss");
  seconds_ = seconds_before_ = noted(notes, "seconds");
  optimiser_.set_steps(loaded.progress->steps);
  steps_before_ = steps();
  if (settings_.carry) {
    if (!loaded.state || loaded.state->streams != settings_.batch) {
      fail("train: the state of {} streams to carry on is missing", settings_.batch);
    }
    state_ = loaded.state->clone();
    model_.set_traces(state_, false);  // of a stream that was learnt live
  }
}

}  // namespace brood
