#include "brood/learn/evaluate.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "brood/base/file.h"
#include "brood/base/file_system.h"
#include "brood/base/float_mode.h"
#include "brood/learn/live.h"
#include "brood/model/safetensors.h"

namespace brood {
namespace {

// B windows of T predictions; `first` is where each begins.
double window_cost(Model& model, Tape& tape, State& state, std::span<const uint8_t> bytes,
                   std::span<const int64_t> first, int64_t T, Precision precision, Activity* activity) {
  std::vector<int32_t> tokens, targets;
  for (const int64_t begin : first) {
    for (int64_t t = 0; t < T; ++t) {
      tokens.push_back(bytes[size_t(begin + t)]);
      targets.push_back(bytes[size_t(begin + t + 1)]);
    }
  }
  state.reset();
  tape.start(false, precision);
  const Var logits = model.forward(tape, state, tokens, int64_t(first.size()), T,
                                   {.keep_state = false, .activity = activity});
  return total_nats(cross_entropy(tape, logits, targets));
}

constexpr int64_t kReadingChunk = 256;

// The shortest window of attention anywhere in a configuration: layers may have their own.
int64_t shortest_window(const nlohmann::json& config, int64_t otherwise) {
  for (const auto& [key, value] : config.items()) {
    if (key == "window" && value.is_number_integer()) otherwise = std::min(otherwise, value.get<int64_t>());
    if (value.is_structured()) otherwise = shortest_window(value, otherwise);
  }
  return otherwise;
}

struct Stopped : Error {
  Stopped() : Error("stopped") {}
};

// Of the predictions of bytes [begin, begin + rows) by the rows of logits, as far as those bytes came.
void score_next(Tape& tape, Var logits, std::span<const uint8_t> bytes, size_t begin, Score& score) {
  std::vector<int32_t> targets(size_t(logits.rows()), 0);
  const size_t known = std::min(targets.size(), bytes.size() - begin);
  std::copy_n(bytes.begin() + int64_t(begin), known, targets.begin());
  const Var loss = cross_entropy(tape, logits, targets);
  for (size_t row = 0; row < known; ++row) score.nats += double(loss.value()[int64_t(row) * loss.stride()]);
  score.scored += int64_t(known);
}

void append_logits(Model& model, State& state, std::span<const uint8_t> bytes, int64_t chunk,
                   WritableFile& file, const std::function<bool()>& stop, Activity* activity, Score& score) {
  const FlushDenormals no_denormals;
  const int64_t length = int64_t(bytes.size());
  Tape tape;
  std::vector<int32_t> tokens;
  for (int64_t begin = 0; begin < length; begin += chunk) {
    if (stop && stop()) throw Stopped();
    const auto piece = bytes.subspan(size_t(begin), size_t(std::min(chunk, length - begin)));
    tokens.assign(piece.begin(), piece.end());
    tape.start(false);
    const Var logits = model.forward(tape, state, tokens, 1, int64_t(tokens.size()), {.activity = activity});
    BROOD_ASSERT(logits.contiguous() && logits.cols() == model.frame().vocab_size);
    file.append(std::as_bytes(std::span(logits.value(), size_t(logits.size()))));
    score_next(tape, logits, bytes, size_t(begin) + 1, score);
  }
}

}  // namespace

ExpertLoads expert_loads(const Activity& activity) {
  ExpertLoads loads;
  for (const std::vector<int64_t>& layer : activity.expert_rows) {
    const int64_t all = std::accumulate(layer.begin(), layer.end(), int64_t(0));
    if (all == 0) continue;
    loads.experts += int64_t(layer.size());
    loads.dead += std::count(layer.begin(), layer.end(), 0);
    const auto busiest = double(*std::max_element(layer.begin(), layer.end()));
    loads.violation = std::max(loads.violation, busiest * double(layer.size()) / double(all) - 1);
  }
  return loads;
}

double total_nats(Var loss) {
  double sum = 0;
  for (int64_t row = 0; row < loss.rows(); ++row) sum += double(loss.value()[row * loss.stride()]);
  return sum;
}

int64_t reading_chunk(const Model& model) { return shortest_window(model.config(), kReadingChunk); }

Score score_windows(Model& model, std::span<const uint8_t> bytes, int64_t B, int64_t T, Precision precision,
                    const std::function<bool()>& stop, Activity* activity) {
  BROOD_ASSERT(B > 0 && T > 0);
  Score score;
  const int64_t predictions = std::max<int64_t>(int64_t(bytes.size()) - 1, 0);
  Tape tape;
  State state;  // never written: windows begin from zero
  const auto score_rows = [&](int64_t begin, int64_t windows, int64_t length) {
    if (state.streams != windows) state = model.make_state(windows);
    std::vector<int64_t> first;
    for (; windows > 0; --windows, begin += length) first.push_back(begin);
    score.nats += window_cost(model, tape, state, bytes, first, length, precision, activity);
    score.scored += int64_t(first.size()) * length;
  };
  int64_t begin = 0;
  while (predictions - begin >= T) {
    if (stop && stop()) return score;
    const int64_t windows = std::min(B, (predictions - begin) / T);
    score_rows(begin, windows, T);
    begin += windows * T;
  }
  if (begin < predictions) score_rows(begin, 1, predictions - begin);
  return score;
}

Score score_stream(Model& model, State& state, std::span<const uint8_t> bytes, int64_t chunk,
                   const std::function<bool()>& stop, Activity* activity, int32_t last) {
  LiveSettings settings;
  settings.chunk = chunk;
  settings.learning = false;
  settings.rehearsals = 0;
  LiveLearner reader(model, state, settings);
  reader.begin_after(last);
  std::vector<int32_t> tokens;
  for (size_t begin = 0; begin < bytes.size() && !(stop && stop()); begin += size_t(chunk)) {
    const auto piece = bytes.subspan(begin, std::min(size_t(chunk), bytes.size() - begin));
    tokens.assign(piece.begin(), piece.end());
    reader.observe(tokens);
  }
  reader.flush();
  if (activity) *activity = reader.activity();
  return {reader.nats(), reader.scored()};
}

Score write_logits(Model& model, State& state, std::span<const uint8_t> bytes, int64_t chunk,
                   const std::string& path, const std::function<bool()>& stop, Activity* activity) {
  const int64_t vocabulary = model.frame().vocab_size, length = int64_t(bytes.size());
  require_disk(path, double(length) * double(vocabulary) * sizeof(float),
               fmt::format("writing {}: the logits of {} bytes", path, length), "choose a shorter text");
  Score score;
  if (length > 0) score = {std::log(double(vocabulary)), 1};  // the first byte: nothing came before
  try {
    write_durably(FileSystem::real(), path, [&](const std::string& aside) {
      const TensorToWrite logits_tensor{"logits", Dtype::kF32, {length, vocabulary}, nullptr};
      const auto file = begin_safetensors(aside, std::span(&logits_tensor, 1), {});
      append_logits(model, state, bytes, chunk, *file, stop, activity, score);
      file->sync();
      file->close();
    });
  } catch (const Stopped&) {
  }
  return score;
}

}  // namespace brood
