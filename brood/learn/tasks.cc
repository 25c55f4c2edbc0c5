#include "brood/learn/tasks.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "brood/base/error.h"
#include "brood/base/random.h"
#include "brood/learn/evaluate.h"

namespace brood {
namespace {

constexpr int64_t kTestSteps = int64_t(1) << 23;
constexpr int64_t kFewestSequences = 16, kMostSequences = 256;
constexpr int64_t kSideBySide = 32;                   // streams that a test reads at once
constexpr uint64_t kTestSeeds = 0x7465737473656564u;  // keeps the sequences of tests apart from a training's

int64_t sequences_of(const TaskTest& test) {
  if (test.sequences > 0) return test.sequences;
  return std::clamp(kTestSteps / test.length, kFewestSequences, kMostSequences);
}

// The answers of `rows` steps that are right.
void count(Var logits, std::span<const int32_t> answers, int64_t classes, TaskScore& score) {
  for (size_t row = 0; row < answers.size(); ++row) {
    if (answers[row] < 0) continue;
    const float* scores = logits.value() + int64_t(row) * logits.stride();
    ++score.asked;
    score.right += std::max_element(scores, scores + classes) - scores == answers[row];
  }
}

// Sequences side by side, from their first step to their last.
void score_together(Model& model, std::vector<std::unique_ptr<TaskSequence>>& sequences, int64_t length,
                    int64_t chunk, const std::function<bool()>& stop, TaskScore& score) {
  const auto B = int64_t(sequences.size());
  State state = model.make_state(B);
  Tape tape;
  std::vector<int32_t> tokens, answers;
  for (int64_t begin = 0; begin < length; begin += chunk) {
    if (stop && stop()) return;
    const int64_t T = std::min(chunk, length - begin);
    tokens.resize(size_t(B * T));
    answers.resize(size_t(B * T));
    for (int64_t b = 0; b < B; ++b) {
      sequences[size_t(b)]->read(std::span(tokens).subspan(size_t(b * T), size_t(T)),
                                 std::span(answers).subspan(size_t(b * T), size_t(T)));
    }
    tape.start(false);
    count(model.forward(tape, state, tokens, B, T), answers, model.frame().vocab_size, score);
  }
}

}  // namespace

TaskBatches::TaskBatches(const Task& task, int64_t batch, int64_t length, uint64_t seed)
    : task_(task), batch_(batch), length_(length), seed_(seed) {
  check_task_length(task, length);
}

bool TaskBatches::fill(int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) {
  Random random(step_seed(seed_, step));
  for (int64_t b = 0; b < batch_; ++b) {
    const auto begin = size_t(b * length_), n = size_t(length_);
    task_.make({.length = length_}, random.next())->read(tokens.subspan(begin, n), targets.subspan(begin, n));
  }
  return true;
}

TaskScore score_task(Model& model, const Task& task, const TaskTest& test,
                     const std::function<bool()>& stop) {
  check_task_length(task, test.length);
  TaskScore score{.length = test.length};
  Random random(step_seed(test.seed ^ kTestSeeds, test.length));
  const int64_t chunk = test.chunk > 0 ? test.chunk : reading_chunk(model);
  for (int64_t left = sequences_of(test); left > 0; left -= kSideBySide) {
    std::vector<std::unique_ptr<TaskSequence>> sequences;
    for (int64_t b = 0; b < std::min(left, kSideBySide); ++b) {
      sequences.push_back(task.make({.length = test.length, .testing = true}, random.next()));
    }
    score_together(model, sequences, test.length, chunk, stop, score);
    score.sequences += int64_t(sequences.size());
    if (stop && stop()) return {.length = test.length};
  }
  return score;
}

}  // namespace brood
