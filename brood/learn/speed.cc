#include "brood/learn/speed.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numbers>
#include <vector>

#include "brood/kernels/machine.h"
#include "brood/learn/evaluate.h"
#include "brood/learn/trainer.h"

namespace brood {
namespace {

using What = SpeedSettings::What;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// One thing to be timed: does a step and says how many tokens it took.
class Work {
 public:
  virtual ~Work() = default;
  virtual int64_t step() = 0;
  Activity activity;
};

void draw(Random& random, std::span<int32_t> tokens) {
  for (int32_t& token : tokens) token = int32_t(random.below(256));
}

// The stream before the clock starts.
void read_past(Model& model, State& state, const SpeedSettings& settings, Random& random) {
  Tape tape;
  std::vector<int32_t> tokens(size_t(reading_chunk(model)));
  for (int64_t left = settings.depth; left > 0; left -= int64_t(tokens.size())) {
    tokens.resize(size_t(std::min(left, int64_t(tokens.size()))));
    draw(random, tokens);
    tape.start(false, settings.precision);
    model.forward(tape, state, tokens, 1, int64_t(tokens.size()), {.last_only = true});
  }
}

class Reading final : public Work {
 public:
  Reading(Model& model, const SpeedSettings& settings, int64_t T)
      : model_(model),
        precision_(settings.precision),
        random_(settings.live.seed),
        state_(model.make_state(1)),
        tokens_(size_t(T)) {
    read_past(model, state_, settings, random_);
  }
  int64_t step() override {
    const auto T = int64_t(tokens_.size());
    draw(random_, tokens_);
    tape_.start(false, precision_);
    model_.forward(tape_, state_, tokens_, 1, T, {.last_only = true, .activity = &activity});
    return T;
  }

 private:
  Model& model_;
  Precision precision_;
  Random random_;
  State state_;
  Tape tape_;
  std::vector<int32_t> tokens_;
};

std::vector<uint8_t> random_bytes(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> bytes(n);
  for (uint8_t& byte : bytes) byte = uint8_t(random.below(256));
  return bytes;
}

class Training final : public Work {
 public:
  Training(Model& model, const SpeedSettings& settings, int64_t T)
      : bytes_(random_bytes(size_t(1) << 20, settings.live.seed)),
        tokens_(settings.batch * T),
        trainer_(model, bytes_, trainer_settings(settings, T)) {}
  int64_t step() override {
    trainer_.step();
    return tokens_;
  }

 private:
  static TrainerSettings trainer_settings(const SpeedSettings& settings, int64_t T) {
    TrainerSettings result;
    result.batch = settings.batch;
    result.context = T;
    result.precision = settings.precision;
    result.seed = settings.live.seed;
    return result;
  }
  std::vector<uint8_t> bytes_;
  int64_t tokens_;
  Trainer trainer_;
};

class Living final : public Work {
 public:
  Living(Model& model, const SpeedSettings& settings)
      : random_(settings.live.seed), state_(model.make_state(1)), tokens_(size_t(settings.live.chunk)) {
    read_past(model, state_, settings, random_);
    learner_ = std::make_unique<LiveLearner>(model, state_, settings.live);
  }
  int64_t step() override {
    draw(random_, tokens_);
    learner_->observe(tokens_);
    activity = learner_->activity();
    return int64_t(tokens_.size());
  }

 private:
  Random random_;
  State state_;
  std::vector<int32_t> tokens_;
  std::unique_ptr<LiveLearner> learner_;
};

constexpr int64_t kProbe = 64;  // steps read to see how many neurons wake

// Tokens per second of each repeat, after a warm-up of one.
std::vector<double> time(Work& work, const SpeedSettings& settings) {
  std::vector<double> rates;
  for (int repeat = 0; repeat <= settings.repeats; ++repeat) {
    if (settings.stop && settings.stop() && !rates.empty()) break;
    const auto begin = Clock::now();
    int64_t tokens = 0;
    do tokens += work.step();
    while (since(begin) < settings.repeat_seconds);
    if (repeat > 0) rates.push_back(double(tokens) / since(begin));
  }
  return rates;
}

constexpr double kUpdateBytes = 20;  // AdamW per weight: writes it, reads and writes two moments

// Adds what a token costs to `speed`: T tokens share one reading of the weights.
void add_cost(const StepCost& cost, const SpeedSettings& settings, double T, double parameters,
              Speed& speed) {
  const bool learns = settings.what == What::kTrain || settings.what == What::kLive;
  const double passes = learns ? 2 : 1;  // the weights are read forward and backward
  speed.bytes_per_token =
      (passes * cost.weight_bytes + (learns ? kUpdateBytes * parameters : 0)) / T + cost.state_bytes;
  speed.flops_per_token = cost.flops + (learns ? cost.backward_flops : 0);
}

double measure_limit(bool memory, double footprint, Precision precision) {
  // In the cache where the model itself fits.
  if (memory)
    return kernels::measure_read_bandwidth(int64_t(std::clamp(footprint, 65536.0, double(1 << 30))));
  return precision == Precision::kBf16 ? kernels::measure_bf16_flops() : kernels::measure_f32_flops();
}

// z such that a standard normal number exceeds it with the given probability.
double normal_quantile(double probability) {
  double low = -10, high = 10;
  for (int i = 0; i < 60; ++i) {
    const double z = (low + high) / 2;
    (std::erfc(z / std::numbers::sqrt2) / 2 > probability ? low : high) = z;
  }
  return low;
}

std::unique_ptr<Model> copy_with(const Model& model, const nlohmann::json& config) {
  auto copy = std::make_unique<Model>(config);
  for (const Parameter& w : model.parameters().all()) {
    Parameter* mine = copy->parameters().find(w.name);
    mine->value = w.value.clone();
    ++mine->version;
  }
  return copy;
}

// True when a window was widened.
bool widen(nlohmann::json& config, int64_t whole, int64_t window) {
  bool changed = false;
  for (auto& [key, value] : config.items()) {
    if (value.is_structured()) changed |= widen(value, whole, window);
    if (key != "window" || !value.is_number_integer()) continue;
    const auto given = value.get<int64_t>();
    if (given < whole || given >= window) continue;
    value = window;
    changed = true;
  }
  return changed;
}

Awake probe(Model& model) {
  SpeedSettings settings;
  Reading reading(model, settings, kProbe);
  reading.step();
  return awake(reading.activity);
}

}  // namespace

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  const size_t n = x.size();
  return n == 0 ? 0 : (x[(n - 1) / 2] + x[n / 2]) / 2;
}

std::unique_ptr<Model> with_activity(Model& model, double share, bool dense) {
  auto config = model.config();
  if (!config.contains("threshold") || !config.contains("sparse")) {
    fail("speed: activity and density are a matter of rectified neurons; {} has none", model.architecture());
  }
  config["sparse"] = dense ? "never" : "auto";
  if (share <= 0) return copy_with(model, config);
  if (share >= 0.5) fail("speed: an activity of {}: a threshold can only lower it, to below 0.5", share);
  // What reaches a neuron is nearly normal, so one measured share gives its width, and that the threshold
  // wanted.
  double threshold = 0.02 * std::sqrt(double(model.frame().d_model)) * normal_quantile(share);
  for (int i = 0; i < 3; ++i) {
    config["threshold"] = threshold;
    const double measured = std::clamp(probe(*copy_with(model, config)).active, 1e-6, 0.49);
    threshold *= normal_quantile(share) / normal_quantile(measured);
  }
  config["threshold"] = threshold;
  return copy_with(model, config);
}

std::unique_ptr<Model> with_wide_windows(std::unique_ptr<Model> model, int64_t whole, int64_t window) {
  auto config = model->config();
  return widen(config, whole, window) ? copy_with(*model, config) : std::move(model);
}

Speed measure_speed(Model& model, const SpeedSettings& settings) {
  const What what = settings.what;
  int64_t T = settings.context;
  if (T == 0) T = what == What::kTrain ? 128 : std::min<int64_t>(512, 2 * reading_chunk(model));
  if (what == What::kDecode) T = 1;
  if (what == What::kLive) T = settings.live.chunk;

  std::unique_ptr<Work> work;
  if (what == What::kTrain) {
    work = std::make_unique<Training>(model, settings, T);
  } else if (what == What::kLive) {
    work = std::make_unique<Living>(model, settings);
  } else {
    work = std::make_unique<Reading>(model, settings, T);
  }
  const std::vector<double> rates = time(*work, settings);

  Speed speed;
  // Training does not count who is awake; its model, as it now is, tells.
  speed.awake = what == What::kTrain ? probe(model) : awake(work->activity);
  speed.tokens_per_second = median(rates);
  std::vector<double> deviations;
  for (const double rate : rates) deviations.push_back(std::abs(rate - speed.tokens_per_second));
  speed.mad = median(deviations);
  speed.least = *std::min_element(rates.begin(), rates.end());
  speed.most = *std::max_element(rates.begin(), rates.end());

  const double parameters = double(model.parameter_count());
  const bool dense =
      model.config().value("sparse", "") == "never";  // every neuron is computed, asleep or not
  const StepCost cost = step_cost(model, settings.precision, settings.depth, dense ? Awake{} : speed.awake);
  add_cost(cost, settings, double(what == What::kTrain ? settings.batch * T : T), parameters, speed);
  if (what == What::kPrefill) speed.flops_per_token -= cost.head_flops * (1 - 1 / double(T));
  speed.limited_by_memory = what == What::kDecode || what == What::kLive;
  const double element = settings.precision == Precision::kBf16 ? 2 : 4;
  const double footprint = parameters * (what == What::kLive ? 12 : element) + cost.state_bytes;
  speed.limit = measure_limit(speed.limited_by_memory, footprint, settings.precision);
  const double used = speed.limited_by_memory ? speed.bytes_per_token : speed.flops_per_token;
  speed.limit_share = speed.tokens_per_second * used / speed.limit;
  return speed;
}

}  // namespace brood
