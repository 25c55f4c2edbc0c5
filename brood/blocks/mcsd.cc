// MCSD, the mixer of Yan (RockAI, "MCSD: An Efficient Language Model with Diverse Fusion", 2024, arXiv
// 2406.12230), as far as it is public, and reconstructed where it is not; docs/mcsd.md says which is which.
//
//   the d_model columns of x stand in C channels of c columns, each with weights of its own
//   U_s = x W_Us,  V_s = x W_Vs;   slope section:  h_t = Σ_{j≤t} e^{−m_i (t−j)} V_j / Σ_{j≤t} e^{−m_i (t−j)}
//   U_d = x W_Ud,  V_d = x W_Vd;   decay section:  h_t = RMSNorm( Σ_{j≤t} γ_i^{t−j} V_j )
//   out = W_O [ U_s ∘ h_slope ; U_d ∘ h_decay ]
//
// Slopes and decays are fixed numbers of each channel i = 1..C: m_i = 2^{−slope·i/C} (ALiBi's, Press et al.
// 2021), γ_i = 1 − 2^{−(decay + i − 1)} (retention's, Sun et al. 2023).
//
// State per stream: two numbers a column for the slopes, one for the decays.
#include <cmath>

#include "brood/autograd/channel_decay.h"
#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

struct Shapes {
  int64_t d_model, channels;
  double slope, decay;
};

Shapes read_shapes(Settings& settings, int64_t d_model) {
  Shapes s;
  s.d_model = d_model;
  s.channels = settings.integer("n_channel", 4, 1, 1024);
  if (d_model % s.channels != 0)
    fail("{}: d_model {} is not a multiple of n_channel {}", settings.context(), d_model, s.channels);
  s.slope = settings.number("slope", 8, 0.01, 64);
  s.decay = settings.number("decay", 5, 1, 16);
  return s;
}

class Mcsd final : public Block {
 public:
  Mcsd(const Shapes& s, const Place& place, ParameterStore& store, Random& random)
      : shapes_(s),
        norm_eps_(place.norm_eps),
        slope_u_(add(store, place, "slope.u", random)),
        slope_v_(add(store, place, "slope.v", random)),
        decay_u_(add(store, place, "decay.u", random)),
        decay_v_(add(store, place, "decay.v", random)),
        norm_(store.add(place.prefix + "decay.norm.weight", {s.d_model})),
        slope_out_(store.add(place.prefix + "slope.out.weight", {s.d_model, s.d_model})),
        decay_out_(store.add(place.prefix + "decay.out.weight", {s.d_model, s.d_model})),
        slopes_(size_t(s.d_model)),
        decays_(size_t(s.d_model)) {
    norm_.decays = false;
    initialise_constant(norm_, 1.0f);
    for (Parameter* p : {&slope_out_, &decay_out_})
      initialise_uniform(*p, 2 * s.d_model, random, 1.0 / std::sqrt(double(place.n_layer)));
    const int64_t width = s.d_model / s.channels;
    for (int64_t c = 0; c < s.d_model; ++c) {
      const double i = double(c / width + 1);
      slopes_[size_t(c)] = float(std::exp(-std::exp2(-s.slope * i / double(s.channels))));
      decays_[size_t(c)] = float(1 - std::exp2(-(s.decay + i - 1)));
    }
  }

  std::vector<StateSpec> state() const override {
    return {{"slope", {2, shapes_.d_model}}, {"decay", {shapes_.d_model}}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    Var slope =
        slope_section(tape, per_channel(tape, x, slope_v_), slopes_.data(), context.chunk, context.state[0]);
    Var decay =
        decay_section(tape, per_channel(tape, x, decay_v_), decays_.data(), context.chunk, context.state[1]);
    decay = rms_norm(tape, decay, norm_, norm_eps_);
    // W_O times the two side by side is the sum of its halves times each.
    return brood::add(tape, linear(tape, mul(tape, per_channel(tape, x, slope_u_), slope), slope_out_),
                      linear(tape, mul(tape, per_channel(tape, x, decay_u_), decay), decay_out_));
  }

 private:
  Parameter& add(ParameterStore& store, const Place& place, const char* name, Random& random) {
    const int64_t width = shapes_.d_model / shapes_.channels;
    Parameter& p = store.add(place.prefix + name + ".weight", {shapes_.d_model, width});
    initialise_uniform(p, width, random);
    return p;
  }
  Var per_channel(Tape& tape, Var x, Parameter& weight) const {
    return block_linear(tape, x, weight, shapes_.channels);
  }

  const Shapes shapes_;
  const float norm_eps_;
  Parameter &slope_u_, &slope_v_, &decay_u_, &decay_v_, &norm_, &slope_out_, &decay_out_;
  std::vector<float> slopes_, decays_;  // e^{−m} and γ of every column
};

}  // namespace

std::unique_ptr<Block> make_mcsd(Settings& settings, const Place& place, ParameterStore& store,
                                 Random& random) {
  return std::make_unique<Mcsd>(read_shapes(settings, place.d_model), place, store, random);
}

}  // namespace brood
