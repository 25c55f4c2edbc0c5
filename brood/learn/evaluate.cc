#include "brood/learn/evaluate.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "brood/learn/live.h"

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
                   const std::function<bool()>& stop, Activity* activity) {
  LiveSettings settings;
  settings.chunk = chunk;
  settings.learning = false;
  settings.rehearsals = 0;
  LiveLearner reader(model, state, settings);
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

}  // namespace brood
