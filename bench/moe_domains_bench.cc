// What sparse experts give at equal work: eight domains, each a table of 1,024 facts (two letters of 32 ask for a
// third), of which a quarter is the same in all; the domain is part of the input, and a tenth of the answers
// seen in training is wrong. Two layers x ← x + feed(norm x) of width 48.
//
//   moe_domains_bench [STEPS [SEED]]       steps of 256 questions, 2,000 of them; half a minute on one core
//
// Prints for every feed the numbers it has and those a question meets, the share of all 8,192 facts answered
// rightly, how uneven the loads of its experts are (MaxVio, and those without any), and the time.
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "brood/blocks/initialise.h"
#include "brood/learn/evaluate.h"
#include "brood/learn/optimiser.h"

namespace {

using namespace brood;

constexpr int64_t kDomains = 8, kLetters = 32, kFacts = kLetters * kLetters, kWidth = 48, kLayers = 2,
                  kBatch = 256;
constexpr double kNoise = 0.1;

struct Task {
  explicit Task(uint64_t seed) {
    Random random(seed);
    for (int64_t fact = 0; fact < kFacts; ++fact) {
      const bool shared = fact % 4 == 0;
      const auto common = int32_t(random.below(kLetters));
      for (auto& table : answers) table[size_t(fact)] = shared ? common : int32_t(random.below(kLetters));
    }
  }
  std::array<std::array<int32_t, size_t(kFacts)>, size_t(kDomains)> answers;
};

struct Questions {
  std::vector<int32_t> domain, first, second, answer;
  void add(const Task& task, int64_t d, int64_t fact) {
    domain.push_back(int32_t(d));
    first.push_back(int32_t(fact / kLetters));
    second.push_back(int32_t(fact % kLetters));
    answer.push_back(task.answers[size_t(d)][size_t(fact)]);
  }
};

Questions draw(const Task& task, Random& random) {
  Questions q;
  for (int64_t i = 0; i < kBatch; ++i) {
    q.add(task, int64_t(random.below(kDomains)), int64_t(random.below(kFacts)));
    if (random.uniform() < kNoise) q.answer.back() = int32_t(random.below(kLetters));
  }
  return q;
}

class Net {
 public:
  Net(const char* feed, const nlohmann::json& keys, uint64_t seed) : random_(seed), settings_(keys, feed) {
    domain_ = &table("domain", kDomains, 1.0);
    first_ = &table("first", kLetters, 1.0);
    second_ = &table("second", kLetters, 1.0);
    head_ = &table("head", kLetters, 1 / std::sqrt(double(kWidth)));
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      norms_.push_back(&store_.add(fmt::format("norm.{}", layer), {kWidth}));
      initialise_constant(*norms_.back(), 1.0f);
      const Place place{layer, kLayers, kWidth, kLayers, fmt::format("{}.", layer), 1e-5f, shared_};
      for (const Part& part : feeds())
        if (part.name == feed) blocks_.push_back(part.make(settings_, place, store_, random_));
    }
  }

  Var logits(Tape& tape, const Questions& q, Activity* activity) {
    const Chunk chunk{.B = int64_t(q.answer.size()), .training = true};
    Var x = add(tape, embedding(tape, q.domain, *domain_), embedding(tape, q.first, *first_));
    x = add(tape, x, embedding(tape, q.second, *second_));
    for (size_t layer = 0; layer < blocks_.size(); ++layer) {
      BlockContext context{tape, chunk, {}, activity, 0};
      x = add(tape, x, blocks_[layer]->forward(context, rms_norm(tape, x, *norms_[layer], 1e-5f)));
    }
    return linear(tape, x, *head_);
  }

  ParameterStore& parameters() { return store_; }

 private:
  Parameter& table(const char* name, int64_t rows, double stddev) {
    Parameter& p = store_.add(name, {rows, kWidth});
    initialise_normal(p, random_, stddev);
    return p;
  }

  ParameterStore store_;
  Random random_;
  Settings settings_;
  std::shared_ptr<void> shared_;
  Parameter *domain_, *first_, *second_, *head_;
  std::vector<Parameter*> norms_;
  std::vector<std::unique_ptr<Block>> blocks_;
};

double share_right(Net& net, const Task& task, Activity& activity) {
  int64_t right = 0;
  Tape tape;
  for (int64_t d = 0; d < kDomains; ++d) {
    Questions q;
    for (int64_t fact = 0; fact < kFacts; ++fact) q.add(task, d, fact);
    tape.start(false);
    const Var z = net.logits(tape, q, &activity);
    for (int64_t r = 0; r < z.rows(); ++r) {
      const float* row = z.value() + r * kLetters;
      right += std::max_element(row, row + kLetters) - row == q.answer[size_t(r)];
    }
  }
  return double(right) / double(kDomains * kFacts);
}

// Numbers behind the products of one question.
int64_t active_numbers(Net& net, const Task& task) {
  Questions q;
  q.add(task, 0, 0);
  Tape tape;
  tape.start(true);
  net.logits(tape, q, nullptr);
  int64_t sum = 0;
  for (const Parameter& p : net.parameters().all()) sum += p.open_uses * p.size();
  return sum;
}

double train(const char* name, const char* feed, const nlohmann::json& keys, int64_t steps, uint64_t seed,
             double dense_seconds) {
  const Task task(seed);
  Net net(feed, keys, seed + 1);
  const int64_t active = active_numbers(net, task);
  Optimiser optimiser(net.parameters(), {.learning_rate = 2e-3, .weight_decay = 0, .clip = 0});
  Random random(seed + 2);
  Tape tape;
  double seconds = 0;
  for (int64_t step = 0; step < steps; ++step) {
    const Questions q = draw(task, random);
    const auto begin = std::chrono::steady_clock::now();
    tape.start(true);
    tape.backward(cross_entropy(tape, net.logits(tape, q, nullptr), q.answer), 1.0f / float(kBatch));
    optimiser.step(2e-3);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  Activity activity;
  const double right = share_right(net, task, activity);
  const ExpertLoads loads = expert_loads(activity);
  fmt::print("{:<42} {:>9} {:>9} {:>8.1f} % {:>8} {:>6} {:>8.2f} s {:>6.2f}\n", name,
             net.parameters().count(), active, 100 * right,
             loads.experts ? fmt::format("{:.2f}", loads.violation) : "",
             loads.experts ? fmt::format("{}", loads.dead) : "", seconds,
             seconds / (dense_seconds > 0 ? dense_seconds : seconds));
  std::fflush(stdout);
  return seconds;
}

nlohmann::json experts(int64_t n, int64_t width, int64_t shared, const char* balance) {
  return {{"n_expert", n},
          {"d_expert", width},
          {"n_shared_expert", shared},
          {"expert", "relu2"},
          {"balance", balance}};
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t steps = argc > 1 ? std::atoll(argv[1]) : 2000;
  const uint64_t seed = argc > 2 ? uint64_t(std::atoll(argv[2])) : 1;
  fmt::print("{:<42} {:>9} {:>9} {:>10} {:>8} {:>6} {:>10} {:>6}\n", "", "numbers", "active", "right",
             "MaxVio", "dead", "training", "times");
  const double dense = train("dense, 64 wide", "relu2", {{"d_ff", 64}}, steps, seed, 0);
  train("dense, 256 wide", "relu2", {{"d_ff", 256}}, steps, seed, dense);
  train("8 experts of 64, balanced by bias", "switch", experts(8, 64, 0, "bias"), steps, seed, dense);
  train("8 experts of 64, balanced by a loss", "switch", experts(8, 64, 0, "loss"), steps, seed, dense);
  train("8 experts of 64, not balanced", "switch", experts(8, 64, 0, "none"), steps, seed, dense);
  train("16 experts of 32, one shared, bias", "switch", experts(16, 32, 1, "bias"), steps, seed, dense);
}
