#include "brood/model/state.h"

#include <algorithm>

namespace brood {

State State::clone() const {
  State copy;
  copy.streams = streams;
  copy.positions = positions;
  for (const StateTensor& t : tensors) copy.tensors.push_back({t.name, t.value.clone(), t.in_place});
  return copy;
}

void State::reset() { std::fill(positions.begin(), positions.end(), 0); }

void State::reset(int64_t stream) { positions[size_t(stream)] = 0; }

int64_t State::bytes() const {
  int64_t n = 0;
  for (const StateTensor& t : tensors) n += t.value.bytes();
  return n;
}

}  // namespace brood
