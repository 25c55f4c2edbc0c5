#include "brood/model/state.h"

#include <algorithm>
#include <cstring>

#include "brood/base/memory.h"

namespace brood {

State State::clone() const {
  State copy;
  copy.streams = streams;
  copy.positions = positions;
  copy.traces = traces;
  for (const StateTensor& t : tensors) copy.tensors.push_back({t.name, t.value.clone(), t.in_place});
  return copy;
}

State State::fork(int64_t stream, int64_t copies) const {
  BROOD_ASSERT(0 <= stream && stream < streams && copies > 0);
  require_memory(double(copies) * double(bytes() / streams),
                 fmt::format("state: {} copies of a stream", copies), "make fewer");
  State forked;
  forked.streams = copies;
  forked.traces = traces;
  forked.positions.assign(size_t(copies), positions[size_t(stream)]);
  for (const StateTensor& t : tensors) {
    std::vector<int64_t> extents{copies};
    for (int i = 1; i < t.value.shape().rank(); ++i) extents.push_back(t.value.shape()[i]);
    Tensor value = Tensor::uninitialized(Shape(std::span(extents)));
    const int64_t size = t.value.size() / streams;
    for (int64_t b = 0; b < copies; ++b)
      std::memcpy(value.f32() + b * size, t.value.f32() + stream * size, size_t(size) * sizeof(float));
    forked.tensors.push_back({t.name, std::move(value), t.in_place});
  }
  return forked;
}

void State::copy_from(const State& from) {
  BROOD_ASSERT(from.streams == streams && from.tensors.size() == tensors.size());
  positions = from.positions;
  for (size_t i = 0; i < tensors.size(); ++i) {
    Tensor& to = tensors[i].value;
    BROOD_ASSERT(to.shape() == from.tensors[i].value.shape());
    std::memcpy(to.data(), from.tensors[i].value.data(), size_t(to.bytes()));
  }
}

void State::reset() { std::fill(positions.begin(), positions.end(), 0); }

void State::reset(int64_t stream) { positions[size_t(stream)] = 0; }

int64_t State::bytes() const {
  int64_t n = 0;
  for (const StateTensor& t : tensors) n += t.value.bytes();
  return n;
}

}  // namespace brood
