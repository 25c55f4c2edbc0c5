// Parameter: a named weight, its gradient and its optimiser moments. ParameterStore owns them and keeps their
// order.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

#include "brood/tensor/tensor.h"

namespace brood {

// Which rows of a matrix of neurons, a row each, a step touches: all of them, those of neurons awake, or of those
// awake the ones that their gate let through, too.
enum class Touched { kAll, kAwake, kGated };

struct Parameter {
  std::string name;              // as the public checkpoints spell it; stays as it is
  Tensor value;                  // f32 master weights
  bool swapped_in_file = false;  // the public checkpoint stores the last two extents swapped
  // The shape in files when it differs from value's beyond the swap, else empty.
  std::vector<int64_t> file_shape;
  bool decays = true;  // weight decay applies
  bool scan = false;   // scan parameter: always f32, may have its own learning rate
  Touched read = Touched::kAll, learnt = Touched::kAll;  // by a forward step, and by its backward
  // Above 0: not learnt along a gradient. What is added to `gradient` is a load above (or below) the mean, and
  // a step moves every number by this much against it (learn/optimiser.h, balance).
  float balance_rate = 0;

  // Made on first use by those who need them; same shape as value.
  Tensor gradient;          // accumulated by GradientSink
  Tensor moment1, moment2;  // the optimiser's
  Tensor half;              // bf16 copy of value, valid when half_version == version

  uint64_t version = 1;  // raised at every change of value
  uint64_t half_version = 0;
  int open_uses = 0;           // uses recorded on the tape whose backward has not run yet
  bool gradient_open = false;  // gradient holds a contribution of this step

  int64_t size() const { return value.size(); }
  const Bf16* half_value();  // brings the bf16 copy up to date
};

class ParameterStore {
 public:
  ParameterStore() = default;
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  // Zero-filled. When one of that name exists (weights shared between layers) it is returned; its shape must
  // be the same. Throws Error when all weights together would not fit into this machine's memory.
  Parameter& add(const std::string& name, const Shape& shape);
  Parameter* find(std::string_view name);
  std::deque<Parameter>& all() { return parameters_; }
  const std::deque<Parameter>& all() const { return parameters_; }
  int64_t count() const;  // numbers in all parameters

 private:
  std::deque<Parameter> parameters_;  // a deque: references stay valid
  std::unordered_map<std::string_view, Parameter*> by_name_;
  int64_t added_ = 0;  // numbers so far
};

}  // namespace brood
