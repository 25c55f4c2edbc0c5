// A norm of the stream with its parameters, of whichever kind an architecture asks for.
#pragma once

#include <string>

#include "brood/autograd/ops.h"
#include "brood/blocks/block.h"

namespace brood {

class Norm {
 public:
  Norm() = default;  // none: x itself
  // Adds its parameters, where it has some: `name` ends in "weight", and a bias is spelt with "bias" there.
  Norm(Frame::Norm kind, ParameterStore& store, const std::string& name, int64_t d_model, float eps);
  Var operator()(Tape& tape, Var x) const;

 private:
  Frame::Norm kind_ = Frame::Norm::kNone;
  Parameter *weight_ = nullptr, *bias_ = nullptr;
  float eps_ = 0;
};

}  // namespace brood
