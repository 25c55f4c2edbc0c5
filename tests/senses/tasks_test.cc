// Every answer is what the task's definition says: found again here from the whole sequence, slowly.
#include "brood/senses/tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/fixture/messages.h"

namespace brood {
namespace {

struct Whole {
  std::vector<int32_t> tokens, answers;
};

Whole read(const Task& task, const TaskShape& shape, uint64_t seed, size_t piece = 1 << 20) {
  const auto n = size_t(shape.length);
  Whole whole{std::vector<int32_t>(n), std::vector<int32_t>(n)};
  const auto sequence = task.make(shape, seed);
  for (size_t at = 0; at < n; at += piece) {
    const size_t some = std::min(piece, n - at);
    sequence->read(std::span(whole.tokens).subspan(at, some), std::span(whole.answers).subspan(at, some));
  }
  return whole;
}

// What is to be answered, by definition.
std::vector<int32_t> copying(const Whole& whole) {
  const std::vector<int32_t>& tokens = whole.tokens;
  std::vector<int32_t> answers(tokens.size(), -1), data;
  for (const int32_t token : tokens)
    if (token != 0 && token != 15) data.push_back(token);
  EXPECT_EQ(data.size(), 16u);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(tokens[tokens.size() - 16 + i], 15);
    answers[tokens.size() - 16 + i] = data.at(i);
  }
  return answers;
}

std::vector<int32_t> induction(const Whole& whole) {
  const std::vector<int32_t>& tokens = whole.tokens;
  std::vector<int32_t> answers(tokens.size(), -1);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 0), 2);
  EXPECT_EQ(tokens.back(), 0);
  answers.back() = tokens[size_t(std::find(tokens.begin(), tokens.end(), 0) - tokens.begin()) + 1];
  return answers;
}

// Where the pairs end is not marked; that as many keys are asked for as were shown tells.
std::vector<int32_t> mqar(const Whole& whole) {
  const std::vector<int32_t>& tokens = whole.tokens;
  const auto pairs =
      size_t(std::count_if(whole.answers.begin(), whole.answers.end(), [](int32_t a) { return a >= 0; }));
  EXPECT_TRUE(pairs >= 4 && pairs <= 8) << pairs;
  std::map<int32_t, int32_t> values;
  for (size_t pair = 0; pair < pairs; ++pair) {
    EXPECT_TRUE(tokens[2 * pair] < 128 && tokens[2 * pair + 1] >= 128);
    EXPECT_EQ(std::count(tokens.begin(), tokens.end(), tokens[2 * pair]), 2) << "shown once, asked for once";
    values[tokens[2 * pair]] = tokens[2 * pair + 1];
  }
  std::vector<int32_t> answers(tokens.size(), -1);
  for (size_t t = 2 * pairs; t < tokens.size(); ++t)
    if (const auto found = values.find(tokens[t]); found != values.end()) answers[t] = found->second;
  return answers;
}

std::vector<int32_t> parity(const Whole& whole) {
  const std::vector<int32_t>& tokens = whole.tokens;
  std::vector<int32_t> answers;
  for (size_t t = 0; t < tokens.size(); ++t)
    answers.push_back(int32_t(std::count(tokens.begin(), tokens.begin() + long(t) + 1, 1) % 2));
  return answers;
}

std::vector<int32_t> delay(const Whole& whole) {
  const std::vector<int32_t>& tokens = whole.tokens;
  std::vector<int32_t> answers(tokens.size(), -1);
  for (size_t t = 16; t < tokens.size(); ++t) answers[t] = tokens[t - 16];
  return answers;
}

using Definition = std::function<std::vector<int32_t>(const Whole&)>;
const std::map<std::string, Definition> kDefinitions{
    {"copying", copying}, {"induction", induction}, {"mqar", mqar}, {"parity", parity}, {"delay", delay}};

TEST(Tasks, AnswersAreWhatTheDefinitionSays) {
  for (const Task& task : tasks()) {
    SCOPED_TRACE(task.name);
    for (const int64_t length : {task.least_length, task.least_length + 1, task.train_length, int64_t(500)}) {
      for (uint64_t seed = 0; seed < 50; ++seed) {
        const Whole whole = read(task, {.length = length}, seed);
        EXPECT_EQ(whole.answers, kDefinitions.at(task.name)(whole)) << length << " steps, seed " << seed;
        for (const int32_t token : whole.tokens) EXPECT_TRUE(token >= 0 && token < task.vocab_size);
      }
    }
  }
}

TEST(Tasks, ParityIsAskedAtTheEndOfATest) {
  const Task& task = find_task("parity");
  const Whole asked = read(task, {.length = 77}, 5), tested = read(task, {.length = 77, .testing = true}, 5);
  EXPECT_EQ(asked.tokens, tested.tokens);
  EXPECT_EQ(std::count(tested.answers.begin(), tested.answers.end(), -1), 76);
  EXPECT_EQ(tested.answers.back(), asked.answers.back());
}

TEST(Tasks, FollowFromTheSeedHoweverTheyAreRead) {
  for (const Task& task : tasks()) {
    SCOPED_TRACE(task.name);
    const TaskShape shape{.length = 200};
    const Whole whole = read(task, shape, 7);
    for (const size_t piece : {size_t(1), size_t(7), size_t(64)}) {
      const Whole again = read(task, shape, 7, piece);
      EXPECT_EQ(again.tokens, whole.tokens);
      EXPECT_EQ(again.answers, whole.answers);
    }
    EXPECT_NE(read(task, shape, 8).tokens, whole.tokens);
  }
}

// Chance leaves nothing out: data tokens, the special token and queries come at every place they may.
TEST(Tasks, EveryPlaceIsTaken) {
  const auto places = [](const char* name, int64_t length,
                         const std::function<bool(const Whole&, size_t)>& here) {
    std::set<size_t> found;
    for (uint64_t seed = 0; seed < 600; ++seed) {
      const Whole whole = read(find_task(name), {.length = length}, seed);
      for (size_t t = 0; t < whole.tokens.size(); ++t)
        if (here(whole, t)) found.insert(t);
    }
    return found;
  };
  EXPECT_EQ(places("copying", 64, [](const Whole& w, size_t t) { return w.tokens[t] > 0 && t < 48; }).size(),
            48u);
  EXPECT_EQ(
      places("induction", 40, [](const Whole& w, size_t t) { return w.tokens[t] == 0 && t < 39; }).size(),
      38u);
  EXPECT_EQ(*places("mqar", 64, [](const Whole& w, size_t t) { return w.answers[t] >= 0; }).begin(), 8u);
  EXPECT_EQ(places("mqar", 64, [](const Whole& w, size_t t) { return w.answers[t] >= 0; }).size(), 56u);
}

TEST(Tasks, RefuseWhatCannotBe) {
  expect_contains(message_of([] { find_task("juggling"); }), "juggling");
  for (const Task& task : tasks()) {
    check_task_length(task, task.least_length);
    expect_contains(message_of([&] { check_task_length(task, task.least_length - 1); }), task.name);
    check_task_length(task, task.train_length);
    for (const int64_t length : task.test_lengths) check_task_length(task, length);
  }
}

}  // namespace
}  // namespace brood
