// Retention (Sun et al., "Retentive Network: A Successor to Transformer", 2023), with the gate and the norm
// of its heads as the public flash-linear-attention library has them:
//
//   q_h = rot_t(W_q x)_h,  k_h = rot_t(W_k x)_h,  v = W_v x             rotary positions
//   S_h ← γ_h S_h + k_h v_hᵀ,   o_h = S_hᵀ q_h / √N                      γ_h = 1 − 2^{−5−h}
//   out = W_o ( RMSNorm_h(o_h) ∘ silu(W_g x) )                          keys N, values P = expand_v·N wide
//
// State per stream: S, one N × P matrix a head.
#include <cmath>

#include "brood/autograd/scalar_scan.h"
#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

struct Shapes {
  int64_t d_model, heads, keys, values;
  float rope_theta;
};

Shapes read_shapes(Settings& settings, int64_t d_model) {
  Shapes s;
  s.d_model = d_model;
  s.heads = settings.integer("n_head", 4, 1, 256);
  if (d_model % (2 * s.heads) != 0)
    fail("{}: d_model {} is not a multiple of 2·n_head = {}; keys turn in pairs within a head",
         settings.context(), d_model, 2 * s.heads);
  s.keys = d_model / s.heads;
  s.values = s.keys * settings.integer("expand_v", 2, 1, 16);
  s.rope_theta = float(settings.number("rope_theta", 10000.0, 1.0, 1e9));
  return s;
}

class Retention final : public Block {
 public:
  Retention(const Shapes& s, const Place& place, ParameterStore& store, Random& random)
      : shapes_(s),
        norm_eps_(place.norm_eps),
        q_(store.add(place.prefix + "q_proj.weight", {s.heads * s.keys, s.d_model})),
        k_(store.add(place.prefix + "k_proj.weight", {s.heads * s.keys, s.d_model})),
        v_(store.add(place.prefix + "v_proj.weight", {s.heads * s.values, s.d_model})),
        g_(store.add(place.prefix + "g_proj.weight", {s.heads * s.values, s.d_model})),
        norm_(store.add(place.prefix + "g_norm.weight", {s.values})),
        o_(store.add(place.prefix + "o_proj.weight", {s.d_model, s.heads * s.values})),
        log_decay_(size_t(s.heads)),
        scale_(size_t(s.heads), 1.0f / std::sqrt(float(s.keys))) {
    norm_.decays = false;
    initialise_constant(norm_, 1.0f);
    for (Parameter* p : {&q_, &k_, &v_, &g_}) initialise_uniform(*p, s.d_model, random);
    initialise_uniform(o_, s.heads * s.values, random, 1.0 / std::sqrt(double(place.n_layer)));
    for (int64_t h = 0; h < s.heads; ++h)
      log_decay_[size_t(h)] = float(std::log1p(-std::exp2(-5.0 - double(h))));
  }

  std::vector<StateSpec> state() const override {
    return {{"memory", {shapes_.heads, shapes_.keys, shapes_.values}}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const int64_t heads = shapes_.heads;
    Var q = rotary(tape, linear(tape, x, q_), heads, context.chunk, shapes_.rope_theta);
    Var k = rotary(tape, linear(tape, x, k_), heads, context.chunk, shapes_.rope_theta);
    Var o = scalar_scan(tape,
                        {.v = linear(tape, x, v_),
                         .k = k,
                         .q = q,
                         .log_decay = tape.leaf(log_decay_.data(), 1, heads),
                         .weight = tape.leaf(scale_.data(), 1, heads)},
                        heads, heads, context.chunk, context.state[0]);
    o = tape.folded(rms_norm(tape, tape.folded(o, shapes_.values), norm_, norm_eps_), heads * shapes_.values);
    return linear(tape, swiglu(tape, linear(tape, x, g_), o), o_);
  }

 private:
  const Shapes shapes_;
  const float norm_eps_;
  Parameter &q_, &k_, &v_, &g_, &norm_, &o_;
  std::vector<float> log_decay_, scale_;  // [heads]
};

}  // namespace

std::unique_ptr<Block> make_retention(Settings& settings, const Place& place, ParameterStore& store,
                                      Random& random) {
  return std::make_unique<Retention>(read_shapes(settings, place.d_model), place, store, random);
}

}  // namespace brood
