// Dragon Hatchling at its published size (25 M parameters): lists of awake neurons against everything dense.
//
//   bdh_bench [repeats]
//
// Two models with the same random weights, one kept dense, take turns at the same work; the threshold sets
// the share of neurons awake. Rows: decoding one token, at several depths of a stream; a whole training step
// (forward and backward of 256 steps, f32). One thread is timed by its own CPU clock, which other programs do
// not disturb, several by the wall clock. Minimum, median and median absolute deviation in milliseconds;
// ratios are of medians.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>

#include "brood/base/threads.h"
#include "brood/kernels/machine.h"
#include "brood/model/model.h"

namespace {

using namespace brood;

constexpr int64_t kWidth = 256, kSteps = 256;
constexpr double kQuantile5 = 1.6449, kQuantile12 = 1.1750;  // of N(0, 1), upper tail

nlohmann::json config(double quantile, bool dense) {
  // At the start x W is N(0, 0.02²·d_model): after a LayerNorm the length of x is sqrt(d_model).
  return {{"architecture", "bdh"},
          {"threshold", 0.02 * std::sqrt(double(kWidth)) * quantile},
          {"sparse", dense ? "never" : "always"}};
}

double milliseconds() {
  timespec now;
  clock_gettime(ThreadPool::instance().size() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return double(now.tv_sec) * 1e3 + double(now.tv_nsec) * 1e-6;
}

struct Times {
  std::vector<double> all;
  double median() {
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
  }
  void print(const char* what) {
    const double middle = median(), least = all.front();
    std::vector<double> off;
    for (double t : all) off.push_back(std::abs(t - middle));
    std::sort(off.begin(), off.end());
    fmt::print("  {:<8} min {:8.2f}  median {:8.2f}  mad {:6.2f}\n", what, least, middle,
               off[off.size() / 2]);
  }
};

void compare(const std::string& title, int repeats, const std::function<void()>& lists,
             const std::function<void()>& dense) {
  Times times[2];
  for (int i = -1; i < repeats; ++i) {
    for (int side = 0; side < 2; ++side) {
      const double begin = milliseconds();
      (side == 0 ? lists : dense)();
      if (i >= 0) times[side].all.push_back(milliseconds() - begin);  // the first round warms up
    }
  }
  fmt::print("{}: {:.2f} times as fast\n", title, times[1].median() / times[0].median());
  times[0].print("lists");
  times[1].print("dense");
  std::fflush(stdout);
}

class Runner {
 public:
  explicit Runner(const nlohmann::json& config)
      : model_(config, 1), state_(model_.make_state(1)), tokens_(kSteps + 1) {
    Random random(2);
    for (int32_t& t : tokens_) t = int32_t(random.below(256));
    // Far into a stream every synapse has been written.
    for (StateTensor& t : state_.tensors)
      if (t.in_place) random.fill_uniform(t.value.f32(), t.value.size(), -1, 1);
  }
  void decode(int64_t depth) {
    state_.positions[0] = depth;
    tape_.start(false);
    model_.forward(tape_, state_, std::span(tokens_).subspan(size_t(depth % kSteps), 1), 1, 1,
                   {.activity = &activity_});
  }
  void train() {
    state_.reset();
    tape_.start(true);
    const Var logits = model_.forward(tape_, state_, std::span(tokens_).first(kSteps), 1, kSteps,
                                      {.training = true, .keep_state = false, .activity = &activity_});
    tape_.backward(cross_entropy(tape_, logits, std::span(tokens_).last(kSteps)), 1.0f / kSteps);
    for (Parameter& p : model_.parameters().all()) p.gradient_open = false;
  }
  std::string activity() {
    const double n = double(activity_.samples);
    return fmt::format("x {:.1f} %, gated {:.1f} %", 100 * activity_.active / n, 100 * activity_.gated / n);
  }

 private:
  Model model_;
  State state_;
  Tape tape_;
  std::vector<int32_t> tokens_;
  Activity activity_;
};

}  // namespace

int main(int argc, char** argv) {
  const int repeats = argc > 1 ? std::atoi(argv[1]) : 5;
  if (argc > 2 || repeats < 1) {
    fmt::print(stderr, "usage: {} [repeats]\n", argv[0]);
    return 2;
  }
  fmt::print("{}, {}\n", kernels::simd_target(), kernels::product_library());
  for (const double quantile : {kQuantile12, kQuantile5}) {
    Runner lists(config(quantile, false)), dense(config(quantile, true));
    lists.decode(1000);
    fmt::print("== {}\n", lists.activity());
    for (const int threads : {1, 2}) {
      ThreadPool::instance().resize(threads);
      for (const int64_t depth : {1'000, 10'000, 100'000})
        compare(
            fmt::format("decode, {} threads, depth {}", threads, depth), 5 * repeats,
            [&] { lists.decode(depth); }, [&] { dense.decode(depth); });
      if (quantile == kQuantile12)
        compare(
            fmt::format("training step of {}, {} threads", kSteps, threads), repeats, [&] { lists.train(); },
            [&] { dense.train(); });
    }
  }
}
