#include "brood/autograd/parameter.h"

#include "brood/base/memory.h"
#include "brood/kernels/matmul.h"

namespace brood {

const Bf16* Parameter::half_value() {
  if (half_version != version) {
    if (half.empty()) half = Tensor::uninitialized(value.shape(), Dtype::kBf16);
    kernels::convert(value.size(), value.f32(), half.bf16());
    half_version = version;
  }
  return half.bf16();
}

Parameter& ParameterStore::add(const std::string& name, const Shape& shape) {
  if (Parameter* existing = find(name)) {
    BROOD_ASSERT(existing->value.shape() == shape);
    return *existing;
  }
  require_memory(double(added_ + shape.size()) * sizeof(float), "model: the weights",
                 "choose a smaller model");
  Parameter& p = parameters_.emplace_back();
  p.name = name;
  p.value = Tensor::zeros(shape);
  by_name_.emplace(p.name, &p);
  added_ += p.size();
  return p;
}

Parameter* ParameterStore::find(std::string_view name) {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

int64_t ParameterStore::count() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.size();
  return n;
}

}  // namespace brood
