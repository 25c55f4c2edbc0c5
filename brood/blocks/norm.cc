#include "brood/blocks/norm.h"

#include <string_view>

#include "brood/blocks/initialise.h"

namespace brood {

namespace {

std::string bias_name(const std::string& weight_name) {
  constexpr std::string_view kWeight = "weight";
  BROOD_ASSERT(weight_name.ends_with(kWeight));
  return weight_name.substr(0, weight_name.size() - kWeight.size()) + "bias";
}

Parameter* add(ParameterStore& store, const std::string& name, int64_t d_model, float value) {
  Parameter& p = store.add(name, {d_model});
  p.decays = false;
  initialise_constant(p, value);
  return &p;
}

}  // namespace

Norm::Norm(Frame::Norm kind, ParameterStore& store, const std::string& name, int64_t d_model, float eps)
    : kind_(kind), eps_(eps) {
  const bool affine = kind == Frame::Norm::kAffineLayer;
  if (affine || kind == Frame::Norm::kRms) weight_ = add(store, name, d_model, 1.0f);
  if (affine) bias_ = add(store, bias_name(name), d_model, 0.0f);
}

Var Norm::operator()(Tape& tape, Var x) const {
  switch (kind_) {
    case Frame::Norm::kNone:
      return x;
    case Frame::Norm::kLayer:
      return layer_norm(tape, x, eps_);
    case Frame::Norm::kAffineLayer:
      return layer_norm(tape, x, *weight_, *bias_, eps_);
    case Frame::Norm::kRms:
      return rms_norm(tape, x, *weight_, eps_);
  }
  return x;
}

}  // namespace brood
