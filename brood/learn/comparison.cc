#include "brood/learn/comparison.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>

#include "brood/base/memory.h"
#include "brood/base/random.h"
#include "brood/learn/evaluate.h"
#include "brood/learn/speed.h"
#include "brood/model/cost.h"

namespace brood {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kCurvePoints = 200;
constexpr int kRepeats = 5;
constexpr int64_t kWrittenAfter = 1 << 16;  // room in a cache for what is written after the longest context

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

struct CurvePoint {
  double seconds;
  int64_t bytes;
  double bits;
};

// About kCurvePoints of them, the last one among them.
nlohmann::json thinned(const std::vector<CurvePoint>& curve) {
  nlohmann::json points = nlohmann::json::array();
  const size_t every = std::max<size_t>(1, (curve.size() + kCurvePoints - 1) / kCurvePoints);
  for (size_t i = 0; i < curve.size(); ++i) {
    if ((curve.size() - 1 - i) % every != 0) continue;
    points.push_back({curve[i].seconds, curve[i].bytes, curve[i].bits});
  }
  return points;
}

// Reads one stream of bytes that never ends: a text over and over.
class Reader {
 public:
  Reader(Model& model, std::span<const uint8_t> text, Precision precision)
      : model_(model), text_(text), precision_(precision), state_(model.make_state(1)) {}

  void restart() { state_.reset(); }
  void read(int64_t bytes, const std::function<bool()>& stop) {
    const int64_t chunk = reading_chunk(model_);
    for (int64_t left = bytes; left > 0 && !stop(); left -= chunk) step(std::min(left, chunk));
  }
  void step(int64_t T) {
    tokens_.resize(size_t(T));
    for (int32_t& token : tokens_) token = text_[at_++ % text_.size()];
    tape_.start(false, precision_);
    model_.forward(tape_, state_, tokens_, 1, T, {.last_only = true, .activity = &activity_});
  }
  const Activity& activity() const { return activity_; }

 private:
  Model& model_;
  std::span<const uint8_t> text_;
  Precision precision_;
  State state_;
  Tape tape_;
  Activity activity_;
  std::vector<int32_t> tokens_;
  size_t at_ = 0;
};

// Prompts of `context` bytes from a zero state, as many as fit into `seconds`, one at least; leaves the reader
// behind the last of them.
double prefill_rate(Reader& reader, int64_t context, double seconds, const std::function<bool()>& stop) {
  std::vector<double> rates;
  const auto begin = Clock::now();
  do {
    const auto one = Clock::now();
    reader.restart();
    reader.read(context, stop);
    rates.push_back(double(context) / since(one));
  } while (since(begin) < seconds && !stop());
  return median(rates);
}

double decode_rate(Reader& reader, double seconds, const std::function<bool()>& stop) {
  std::vector<double> rates;
  for (int repeat = 0; repeat < kRepeats && !stop(); ++repeat) {
    const auto begin = Clock::now();
    int64_t bytes = 0;
    do reader.step(1), ++bytes;
    while (since(begin) < seconds / kRepeats);
    rates.push_back(double(bytes) / since(begin));
  }
  return median(rates);
}

// Adds "contexts" and "awake"; false when stopped.
bool measure_contexts(Model& model, std::span<const uint8_t> text, const ComparisonSettings& settings,
                      const ComparisonEvents& events, const std::function<bool()>& stop,
                      nlohmann::json& result) {
  Reader reader(model, text, settings.training.precision);
  for (const int64_t context : settings.contexts) {
    if (events.progress) events.progress(fmt::format("reading, and writing after {} bytes", context));
    const double prefill = prefill_rate(reader, context, settings.seconds, stop);
    const double decode = decode_rate(reader, settings.seconds, stop);
    if (stop()) return false;
    result["contexts"].push_back({{"context", context},
                                  {"prefill_bytes_per_second", prefill},
                                  {"decode_bytes_per_second", decode},
                                  {"state_bytes", held_state_bytes(model, context)}});
  }
  if (reader.activity().samples > 0) result["awake"] = awake(reader.activity()).active;
  return true;
}

// How fast it would train, without training it; its weights change.
void measure_training(Model& model, const ComparisonSettings& settings, const ComparisonEvents& events,
                      nlohmann::json& result) {
  if (events.progress) events.progress("training steps");
  SpeedSettings speed;
  speed.what = SpeedSettings::What::kTrain;
  speed.precision = settings.training.precision;
  speed.batch = settings.training.batch;
  speed.context = settings.training.context;
  speed.repeats = kRepeats;
  speed.repeat_seconds = settings.seconds / kRepeats;
  speed.stop = events.stop;
  result["train_bytes_per_second"] = measure_speed(model, speed).tokens_per_second;
}

// Trains and writes what was seen; false when stopped.
bool train(Model& model, std::span<const uint8_t> data, std::span<const uint8_t> valid,
           const ComparisonSettings& settings, const ComparisonEvents& events,
           const std::function<bool()>& stop, nlohmann::json& result) {
  Trainer trainer(model, data, settings.training);
  std::vector<CurvePoint> curve;
  const auto stepped = [&] {
    curve.push_back({trainer.seconds(), trainer.tokens(), trainer.loss() / std::numbers::ln2});
    if (!events.progress) return;
    events.progress(fmt::format("step {} of {}{}, {:.3f} bits per byte, {:.0f} bytes/s", trainer.steps(),
                                settings.training.seconds > 0 ? "about " : "", trainer.planned_steps(),
                                curve.back().bits, trainer.tokens_per_second()));
  };
  const Score score = trainer.run(valid, {.stop = stop, .stepped = stepped, .validated = {}});
  if (stop()) return false;
  result["steps"] = trainer.steps();
  result["bytes"] = trainer.tokens();
  result["seconds"] = trainer.seconds();
  result["train_bytes_per_second"] = trainer.tokens_per_second();
  if (score.scored > 0) result["bits_per_byte"] = score.bits_per_byte();
  result["curve"] = thinned(curve);
  return true;
}

std::vector<uint8_t> some_bytes(uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> bytes(65536);
  for (uint8_t& byte : bytes) byte = uint8_t(random.below(256));
  return bytes;
}

}  // namespace

nlohmann::json compare_one(std::unique_ptr<Model> model, std::span<const uint8_t> data,
                           std::span<const uint8_t> valid, const ComparisonSettings& settings,
                           const ComparisonEvents& events) {
  const auto stop = [&] { return events.stop && events.stop(); };
  nlohmann::json result = {{"parameters", model->parameter_count()},
                           {"config", model->config()},
                           {"steps", 0},
                           {"bytes", 0},
                           {"seconds", 0},
                           {"train_bytes_per_second", nullptr},
                           {"bits_per_byte", nullptr},
                           {"curve", nlohmann::json::array()},
                           {"peak_memory_bytes", nullptr},
                           {"awake", nullptr},
                           {"contexts", nlohmann::json::array()}};
  const PeakMemory memory;
  if (settings.train) {
    if (!train(*model, data, valid, settings, events, stop, result)) return nullptr;
  } else {
    measure_training(*model, settings, events, result);
  }
  if (memory.known()) result["peak_memory_bytes"] = memory.bytes();
  if (settings.contexts.empty()) return result;

  const std::vector<uint8_t> chance = some_bytes(settings.training.seed);
  const std::span<const uint8_t> text = !valid.empty() ? valid : !data.empty() ? data : std::span(chance);
  model = with_wide_windows(std::move(model), kWholePast, settings.contexts.back() + kWrittenAfter);
  if (!measure_contexts(*model, text, settings, events, stop, result)) return nullptr;
  return result;
}

void add_time_to_loss(nlohmann::json& document) {
  auto& models = document["models"];
  auto& loss = document["loss_bits_per_byte"];
  if (loss.is_null()) {
    for (const auto& model : models) {
      if (model["curve"].empty()) continue;
      const auto last = model["curve"].back()[2].get<double>();
      loss = loss.is_null() ? last : std::max(loss.get<double>(), last);
    }
  }
  for (auto& model : models) {
    model["seconds_to_loss"] = nullptr;
    if (loss.is_null()) continue;
    for (const auto& point : model["curve"]) {
      if (point[2].get<double>() > loss.get<double>()) continue;
      model["seconds_to_loss"] = point[0];
      break;
    }
  }
}

}  // namespace brood
