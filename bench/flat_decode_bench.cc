// Does a step cost the same however long the stream is? One stream stands at 1,000 steps, another at FAR; they are
// decoded in turns, some steps of each, on one thread, so that the machine's mood is the same for both.
//
//   flat_decode_bench [FAR [PRESET...]]     FAR: 1000000 unless given; PRESET: all whose name ends with -s
//
// Prints for every preset the median time of a step near and far, the median over the turns of far over near, and the
// bytes of both states.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "brood/base/threads.h"
#include "brood/learn/evaluate.h"
#include "brood/model/model.h"
#include "brood/model/presets.h"

namespace {

using namespace brood;

constexpr int64_t kNear = 1000, kTurns = 101;
constexpr double kTurnSeconds = 0.02;

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ptrdiff_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

class Stream {
 public:
  explicit Stream(Model& model) : model_(model), state_(model.make_state(1)) {}

  void read(int64_t steps) {
    std::vector<int32_t> tokens(size_t(reading_chunk(model_)));
    for (int64_t left = steps; left > 0; left -= int64_t(tokens.size())) {
      tokens.resize(size_t(std::min(left, int64_t(tokens.size()))));
      for (int32_t& token : tokens) token = draw();
      step(tokens);
    }
  }
  double seconds_of(int64_t steps) {
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < steps; ++i) {
      const int32_t token = draw();
      step(std::span(&token, 1));
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  int64_t bytes() const { return state_.bytes(); }
  void keep() { kept_ = state_.clone(); }
  void go_back() { state_.copy_from(kept_); }

 private:
  int32_t draw() { return int32_t(random_.below(256)); }
  void step(std::span<const int32_t> tokens) {
    tape_.start(false);
    model_.forward(tape_, state_, tokens, 1, int64_t(tokens.size()), {.last_only = true});
  }

  Model& model_;
  State state_, kept_;
  Tape tape_;
  Random random_{1};
};

void compare(const Preset& preset, int64_t far) {
  Model model(nlohmann::json::parse(preset.json));
  Stream early(model), late(model);
  ThreadPool::instance().resize(2);  // reading is no part of what is timed; results do not depend on it
  early.read(kNear);
  late.read(far);
  ThreadPool::instance().resize(1);

  early.keep();
  early.seconds_of(10);
  const int64_t steps = std::clamp<int64_t>(int64_t(kTurnSeconds / (early.seconds_of(20) / 20)), 4, 200);
  std::vector<double> near_seconds, far_seconds, ratios;
  for (int64_t turn = 0; turn < kTurns; ++turn) {
    early.go_back();
    // Who is first changes from turn to turn.
    double near_turn = 0, far_turn = 0;
    if (turn % 2 == 0) near_turn = early.seconds_of(steps);
    far_turn = late.seconds_of(steps);
    if (turn % 2 == 1) near_turn = early.seconds_of(steps);
    near_seconds.push_back(near_turn / double(steps));
    far_seconds.push_back(far_turn / double(steps));
    ratios.push_back(far_turn / near_turn);
  }
  fmt::print("| `{}` | {:.1f} | {:.1f} | {:.3f} | {} | {} |\n", preset.name, 1e6 * median(near_seconds),
             1e6 * median(far_seconds), median(ratios), early.bytes(), late.bytes());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t far = argc > 1 ? std::atoll(argv[1]) : 1'000'000;
  if (far < kNear) {
    fmt::print(stderr, "flat_decode_bench: FAR is {} and must be {} or more\n", far, kNear);
    return 2;
  }
  std::vector<std::string_view> names(argv + std::min(argc, 2), argv + argc);
  if (names.empty())
    for (const Preset& preset : presets())
      if (std::string_view(preset.name).ends_with("-s")) names.push_back(preset.name);
  fmt::print("| preset | us a step after {} | after {} | far over near | bytes of state, near | far |\n",
             kNear, far);
  fmt::print("|---|--:|--:|--:|--:|--:|\n");
  for (const std::string_view name : names) {
    const Preset* preset = find_preset(name);
    if (!preset) {
      fmt::print(stderr, "flat_decode_bench: no preset is called {}\n", name);
      return 2;
    }
    compare(*preset, far);
  }
}
