// State: everything a model remembers of its streams, as an object: B streams, one tensor [B, ...] per state
// of each layer, and how many steps each stream has seen. Copyable with clone(); zero at the start of a
// stream.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "brood/blocks/block.h"
#include "brood/tensor/tensor.h"

namespace brood {

struct StateTensor {
  std::string name;  // "layers.3.ssm"
  Tensor value;      // [B, ...]
  bool in_place = false;
};

struct State {
  int64_t streams = 0;
  std::vector<StateTensor> tensors;
  std::vector<int64_t> positions;  // [streams] steps seen
  bool traces = false;             // tensors holds traces (blocks/block.h), too

  State clone() const;
  // One of the streams, as often as wanted: each copy goes on by itself. Throws Error when so many would not
  // fit into this machine's memory.
  State fork(int64_t stream, int64_t copies = 1) const;
  // Takes what `from` holds, into the memory that is here. Both are states of one model with as many streams.
  void copy_from(const State& from);
  // Back to the beginning: sets positions to 0, which by definition means a zero state; memory is not
  // touched.
  void reset();
  void reset(int64_t stream);
  int64_t bytes() const;
};

// The gradient of a loss with respect to a state, tensor by tensor.
struct StateGradient {
  std::vector<Tensor> tensors;
};

}  // namespace brood
