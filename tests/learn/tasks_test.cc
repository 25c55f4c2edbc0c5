#include "brood/learn/tasks.h"

#include <gtest/gtest.h>

#include <vector>

#include "brood/learn/trainer.h"
#include "tests/fixture/messages.h"

namespace brood {
namespace {

nlohmann::json small(const Task& task) {
  return {{"architecture", "mamba"}, {"d_model", 32}, {"n_layer", 1}, {"vocab_size", task.vocab_size}};
}

TrainerSettings settings(int64_t length, int64_t steps) {
  TrainerSettings result;
  result.batch = 16;
  result.context = length;
  result.schedule = {Schedule::Shape::kCosine, 1e-2, 0.01, 20, steps};
  result.optimiser.weight_decay = 0;
  return result;
}

TEST(TaskBatches, AreTheSameForTheSameSeedAndStep) {
  const Task& task = find_task("mqar");
  const auto batch = [&](uint64_t seed, int64_t step) {
    std::vector<int32_t> both(2 * 4 * 64);
    const auto half = std::span(both).subspan(4 * 64);
    EXPECT_TRUE(TaskBatches(task, 4, 64, seed).fill(step, std::span(both).first(4 * 64), half));
    return both;
  };
  EXPECT_EQ(batch(1, 5), batch(1, 5));
  EXPECT_NE(batch(1, 5), batch(1, 6));
  EXPECT_NE(batch(1, 5), batch(2, 5));
}

TEST(TaskScore, IsTheSameInAnyChunks) {
  const Task& task = find_task("delay");
  Model model(small(task), 3);
  const auto score = [&](int64_t chunk) {
    return score_task(model, task, {.length = 150, .sequences = 40, .chunk = chunk});
  };
  const TaskScore whole = score(150);
  EXPECT_EQ(whole.sequences, 40);
  EXPECT_EQ(whole.asked, 40 * (150 - 16));
  EXPECT_GT(whole.right, 0) << "a guess is right once in sixteen";
  EXPECT_LT(whole.accuracy(), 0.2);
  // Rounding may turn a guess between two equals.
  for (const int64_t chunk : {1, 32, 0})
    EXPECT_NEAR(double(score(chunk).right), double(whole.right), 3) << chunk;
}

TEST(TaskScore, NothingIsScoredWhenStopped) {
  const Task& task = find_task("delay");
  Model model(small(task), 3);
  EXPECT_EQ(score_task(model, task, {.length = 64}, [] { return true; }).asked, 0);
}

TEST(Tasks, AreLearnt) {
  const Task& task = find_task("parity");
  // Sequences of three: a table of eight, which anything can learn.
  Model model(small(task), 1);
  TaskBatches batches(task, 16, 3, 0);
  const TaskTest test{.length = 3, .sequences = 100};
  EXPECT_LT(score_task(model, task, test).accuracy(), 0.9);
  Trainer(model, batches, settings(3, 300)).run({});
  EXPECT_EQ(score_task(model, task, test).accuracy(), 1);
}

TEST(Tasks, NeedTheirVocabulary) {
  const Task& task = find_task("mqar");
  auto config = small(task);
  config["vocab_size"] = 100;
  Model model(config, 1);
  TaskBatches batches(task, 2, 64, 0);
  expect_contains(message_of([&] { Trainer(model, batches, settings(64, 1)); }), "256");
}

TEST(Tasks, ResumeOnlyTheSameTask) {
  const Task &mqar = find_task("mqar"), &delay = find_task("delay");
  EXPECT_NE(TaskBatches(mqar, 2, 64, 0).identity(), TaskBatches(delay, 2, 64, 0).identity());
}

}  // namespace
}  // namespace brood
