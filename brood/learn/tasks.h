// Learning the tasks of senses/tasks.h, and how well a model has learnt one.
#pragma once

#include <cstdint>
#include <functional>

#include "brood/learn/batches.h"
#include "brood/model/model.h"
#include "brood/senses/tasks.h"

namespace brood {

class TaskBatches final : public BatchSource {
 public:
  // Throws Error when the task cannot be put into so many steps. The task must outlive the source.
  TaskBatches(const Task& task, int64_t batch, int64_t length, uint64_t seed);
  bool fill(int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) override;
  int64_t vocab_size() const override { return task_.vocab_size; }
  nlohmann::json identity() const override { return {{"task", task_.name}}; }

 private:
  const Task& task_;
  int64_t batch_, length_;
  uint64_t seed_;
};

struct TaskTest {
  int64_t length = 0;
  int64_t sequences = 0;  // 0: as many as make a few million steps, at least 16, at most 256
  int64_t chunk = 0;      // steps read at a time, the state carried on; 0: what is fast
  uint64_t seed = 0;      // no sequence of a training has the same, whatever its seed
};

struct TaskScore {
  int64_t length = 0, sequences = 0;
  int64_t asked = 0, right = 0;  // answers
  double accuracy() const { return asked == 0 ? 0 : double(right) / double(asked); }
};

// Reads sequences that no training has seen, each from a zero state, and counts the answers whose most
// probable token is the right one. Memory does not grow with the length. `stop` is asked between chunks and
// ends the work early: nothing asked.
TaskScore score_task(Model& model, const Task& task, const TaskTest& test,
                     const std::function<bool()>& stop = {});

}  // namespace brood
