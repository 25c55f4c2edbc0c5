#include "brood/learn/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

#include "brood/base/error.h"
#include "brood/base/json.h"
#include "brood/base/random.h"

namespace brood {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMeanSteps = 100;  // the loss shown is a mean over about so many steps

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Tells one text from another; not made to withstand forgers.
uint64_t hash(std::span<const uint8_t> bytes) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15u;  // 2^64 over the golden ratio, odd
  uint64_t sum = bytes.size();
  for (size_t at = 0; at < bytes.size(); at += sizeof(sum)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min(sizeof(word), bytes.size() - at));
    sum = (sum ^ word) * kFactor;
    sum ^= sum >> 32;
  }
  return sum;
}

double noted(const nlohmann::json& notes, const char* key) {
  const auto found = notes.find(key);
  if (found == notes.end() || !found->is_number() || !(found->get<double>() >= 0)) {
    fail("train: the notes saved with the model say no {}, or one that cannot be: start anew", key);
  }
  return found->get<double>();
}

}  // namespace

Trainer::Trainer(Model& model, std::span<const uint8_t> data, const TrainerSettings& settings)
    : model_(model),
      data_(data),
      data_hash_(hash(data)),
      settings_(settings),
      optimiser_(model.parameters(), settings.optimiser),
      state_(model.make_state(settings.batch)) {
  const int64_t needed = settings.carry ? settings.batch * settings.context + 1 : settings.context + 1;
  if (int64_t(data.size()) < needed) {
    fail("train: {} bytes of data are too few: a batch of {} with context {}{} needs {}", data.size(),
         settings.batch, settings.context, settings.carry ? ", carried on," : "", needed);
  }
  if (model.frame().vocab_size < 256) {
    fail("train: the model knows {} tokens and bytes need 256: set \"vocab_size\" to 256 or more",
         model.frame().vocab_size);
  }
  const auto rows = size_t(settings.batch * settings.context);
  tokens_.resize(rows);
  targets_.resize(rows);
}

// Chance is drawn anew from (seed, step) at every step, so nothing about it has to be saved.
uint64_t Trainer::step_seed() const { return settings_.seed * 0x9e3779b97f4a7c15u + uint64_t(steps()); }

void Trainer::next_crops() {
  Random random(step_seed());
  const int64_t T = settings_.context;
  for (int64_t b = 0; b < settings_.batch; ++b) {
    const auto* crop = data_.data() + random.below(data_.size() - uint64_t(T));
    std::copy_n(crop, T, tokens_.begin() + b * T);
    std::copy_n(crop + 1, T, targets_.begin() + b * T);
  }
  state_.reset();
}

void Trainer::next_chunk() {
  const int64_t T = settings_.context;
  const int64_t length = (int64_t(data_.size()) - 1) / settings_.batch;  // steps in each of the B streams
  const int64_t chunk = steps() % (length / T);
  if (chunk == 0) state_.reset();
  for (int64_t b = 0; b < settings_.batch; ++b) {
    const auto* piece = data_.data() + b * length + chunk * T;
    std::copy_n(piece, T, tokens_.begin() + b * T);
    std::copy_n(piece + 1, T, targets_.begin() + b * T);
  }
}

void Trainer::step() {
  const auto begin = Clock::now();
  settings_.carry ? next_chunk() : next_crops();
  tape_.start(true, settings_.precision);
  const Var logits = model_.forward(tape_, state_, tokens_, settings_.batch, settings_.context,
                                    {.training = true, .keep_state = settings_.carry, .seed = step_seed()});
  const Var loss = cross_entropy(tape_, logits, targets_);
  const double nats = total_nats(loss) / double(loss.rows());
  if (!std::isfinite(nats)) {
    fail(
        "train: the loss is not a number any more at step {}: a smaller --learning-rate or a longer --warmup "
        "helps",
        steps() + 1);
  }
  tape_.backward(loss, 1.0f / float(loss.rows()));

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
  return {{"batch", settings_.batch},   {"context", settings_.context},
          {"carry", settings_.carry},   {"seed", settings_.seed},
          {"data_bytes", data_.size()}, {"data_hash", fmt::format("{:016x}", data_hash_)}};
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
  }
}

}  // namespace brood
