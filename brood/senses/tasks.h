// Tasks: synthetic sequences, made on the fly, that ask one thing of a model each: to choose what to keep, to
// find again what it saw, to count. Every sequence follows from its seed alone and is read step by step, so
// one of a million steps needs no more memory than one of a hundred.
//
// At every step a token comes in and an answer may be asked for; tasks() says what each asks, what was
// published on it, and how it is made.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace brood {

// One sequence. Not thread-safe.
class TaskSequence {
 public:
  virtual ~TaskSequence() = default;
  // The next steps: what comes in, and what is to be answered at that very step, −1 where nothing is.
  void read(std::span<int32_t> tokens, std::span<int32_t> answers);

 protected:
  struct Step {
    int32_t token, answer;
  };
  virtual Step next() = 0;
};

// What a sequence is made with.
struct TaskShape {
  int64_t length = 0;    // steps
  bool testing = false;  // asks only for what counts in a test (parity: the last answer)
};

struct Task {
  const char* name;     // "mqar"
  const char* purpose;  // one line: what is asked
  const char* about;    // how a sequence looks, what is published and where, in a few lines
  int64_t vocab_size;
  int64_t train_length;               // steps in training, unless told otherwise
  std::vector<int64_t> test_lengths;  // and those of the tests
  int64_t least_length;               // a shorter sequence cannot hold the task
  std::unique_ptr<TaskSequence> (*make)(const TaskShape& shape, uint64_t seed);
};

const std::vector<Task>& tasks();
const Task& find_task(std::string_view name);  // throws Error that lists the known ones

// Throws Error when the task cannot be put into so many steps.
void check_task_length(const Task& task, int64_t length);

}  // namespace brood
