#include "brood/learn/comparison.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "brood/base/memory.h"
#include "brood/base/random.h"
#include "brood/learn/comparison_training.h"
#include "brood/learn/evaluate.h"
#include "brood/learn/speed.h"
#include "brood/model/cost.h"
#include "brood/model/directory.h"
#include "brood/model/state_file.h"

namespace brood {
namespace {

using Clock = std::chrono::steady_clock;
using Status = ComparedModel::Status;

constexpr int kRepeats = 5;
constexpr int64_t kChanceBytes = 1 << 16;  // read where there is no text

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// How many bytes may be written after a context before it counts as longer.
int64_t written_after(int64_t context) { return std::max<int64_t>(context / 8, 16); }

// Reads one stream of bytes that never ends: a text over and over.
class Reader {
 public:
  Reader(Model& model, std::span<const uint8_t> text, Precision precision)
      : model_(model), text_(text), precision_(precision), state_(model.make_state(1)) {}

  void restart() {
    state_.reset();
    read_ = 0;
  }
  int64_t position() const { return read_; }  // bytes since it was started
  void read(int64_t bytes, const std::function<bool()>& stop) {
    const int64_t chunk = reading_chunk(model_);
    for (int64_t left = bytes; left > 0 && !stop(); left -= chunk) step(std::min(left, chunk));
  }
  void step(int64_t T) {
    tokens_.resize(size_t(T));
    for (int32_t& token : tokens_) token = text_[at_++ % text_.size()];
    tape_.start(false, precision_);
    model_.forward(tape_, state_, tokens_, 1, T, {.last_only = true, .activity = &activity_});
    read_ += T;
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
  int64_t read_ = 0;
};

// Prompts of `context` bytes from a zero state, as many as fit into `seconds`, one at least; leaves the reader
// behind the last of them.
double read_rate(Reader& reader, int64_t context, double seconds, const std::function<bool()>& stop) {
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

// After a prompt of `context` bytes; when so many have been written that it is no longer of about that length,
// it is read again, off the clock.
double write_rate(Reader& reader, int64_t context, double seconds, const std::function<bool()>& stop) {
  std::vector<double> rates;
  int64_t written = 0;
  for (int repeat = 0; repeat < kRepeats && !stop(); ++repeat) {
    double spent = 0;
    int64_t bytes = 0;
    while (spent < seconds / kRepeats) {
      if (written == written_after(context)) {
        reader.restart();
        reader.read(context, stop);
        written = 0;
      }
      const auto begin = Clock::now();
      reader.step(1);
      spent += since(begin);
      ++bytes, ++written;
    }
    rates.push_back(double(bytes) / spent);
  }
  return median(rates);
}

// Where the state grows a million steps would take hours, and a cache that is cut there would not be one.
std::vector<int64_t> contexts_for(const Model& model, const ComparisonSettings& settings) {
  std::vector<int64_t> contexts = settings.contexts;
  const int64_t longest = contexts.empty() ? 1 : contexts.back();
  if (settings.long_context > longest &&
      held_state_bytes(model, settings.long_context) == held_state_bytes(model, longest))
    contexts.push_back(settings.long_context);
  return contexts;
}

std::vector<uint8_t> chance_bytes(uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> bytes(kChanceBytes);
  for (uint8_t& byte : bytes) byte = uint8_t(random.below(256));
  return bytes;
}

// False when it was stopped.
bool measure(ComparedModel& result, std::unique_ptr<Model> model, std::span<const uint8_t> text,
             const ComparisonSettings& settings, const ComparisonEvents& events) {
  if (!settings.contexts.empty()) {
    const int64_t longest = settings.contexts.back();
    model = with_wide_windows(std::move(model), kWholePast, longest + written_after(longest));
  }
  const std::vector<int64_t> contexts = contexts_for(*model, settings);
  Reader reader(*model, text, settings.training.precision);
  for (size_t i = result.contexts.size(); i < contexts.size(); ++i) {
    const int64_t context = contexts[i];
    const auto stop = [&] {
      if (events.progress)
        events.progress(fmt::format("{} of {} bytes read, then writing", reader.position(), context));
      return events.stop && events.stop();
    };
    const double read = read_rate(reader, context, settings.seconds, stop);
    const double write = write_rate(reader, context, settings.seconds, stop);
    if (stop()) return false;
    result.contexts.push_back({context, read, write, held_state_bytes(*model, context)});
    if (reader.activity().samples > 0) result.awake = awake(reader.activity()).active;
    if (events.keep) events.keep();
  }
  return true;
}

// How fast it would train, and in how much memory, by a few steps of a copy that is then thrown away.
void measure_training(ComparedModel& result, const ComparisonSettings& settings,
                      const ComparisonEvents& events) {
  if (events.progress) events.progress("training steps");
  const PeakMemory memory;
  const LoadedModel loaded = load_model(result.source, settings.training.seed);
  SpeedSettings speed;
  speed.what = SpeedSettings::What::kTrain;
  speed.precision = settings.training.precision;
  speed.batch = settings.training.batch;
  speed.context = settings.training.context;
  speed.repeats = kRepeats;
  speed.repeat_seconds = settings.seconds / kRepeats;
  speed.stop = events.stop;
  result.train_rate = measure_speed(*loaded.model, speed).tokens_per_second;
  if (memory.known()) result.peak_memory = memory.bytes();
}

// The weights whose training is over.
std::unique_ptr<Model> kept_model(const ComparedModel& result, const std::string& folder, uint64_t seed) {
  LoadedModel loaded = load_model(folder, seed);
  if (loaded.model->config() != result.config || !loaded.progress || loaded.progress->steps != result.steps)
    fail("compare: {} does not hold the model that was trained there; start over with --overwrite", folder);
  return std::move(loaded.model);
}

}  // namespace

std::optional<double> ComparedModel::seconds_to(double bits) const {
  const auto found =
      std::find_if(curve.begin(), curve.end(), [&](const CurvePoint& point) { return point.bits <= bits; });
  return found == curve.end() ? std::nullopt : std::optional(found->seconds);
}

std::optional<double> Comparison::loss_in_question() const {
  if (loss) return loss;
  std::optional<double> worst;
  for (const ComparedModel& model : models)
    if (model.trained() && !model.curve.empty()) worst = std::max(worst.value_or(0), model.curve.back().bits);
  return worst;
}

ComparedModel model_to_compare(const std::string& name, const std::string& source, const Model& model) {
  ComparedModel result;
  result.name = name;
  result.source = source;
  result.config = model.config();
  result.weights = fingerprint(model);
  result.parameters = model.parameter_count();
  return result;
}

void compare_one(ComparedModel& model, const std::string& folder, const ComparisonTexts& texts,
                 const ComparisonSettings& settings, const ComparisonEvents& events) {
  const uint64_t seed = settings.training.seed;
  std::unique_ptr<Model> trained;
  if (settings.train && (model.status == Status::kWaiting || model.status == Status::kTraining)) {
    trained = train_compared(model, folder, texts, settings, events);
  } else if (model.status == Status::kWaiting) {
    measure_training(model, settings, events);
    if (events.stop && events.stop()) return;
    model.status = Status::kTrained;
    if (events.keep) events.keep();
  }
  if (model.status != Status::kTrained) return;
  if (!trained)
    trained = settings.train ? kept_model(model, folder, seed) : load_model(model.source, seed).model;

  const std::vector<uint8_t> chance = chance_bytes(seed);
  const auto text = !texts.valid.empty() ? texts.valid : !texts.data.empty() ? texts.data : std::span(chance);
  if (!measure(model, std::move(trained), text, settings, events)) return;
  model.status = Status::kFinished;
  if (events.keep) events.keep();
}

}  // namespace brood
