// Gated DeltaNet (Yang, Kautz and Hatamizadeh, "Gated Delta Networks: Improving Mamba2 with Delta Rule",
// 2024). Shapes and names as in the public flash-linear-attention library; see docs/gated_deltanet.md for
// equation ↔ line.
//
//   q, k, v = silu( conv(W_q x) ), silu( conv(W_k x) ), silu( conv(W_v x) )      d_conv taps, no bias
//   q_h ← q_h / (|q_h| √N),   k_h ← k_h / |k_h|                         N = head_dim; values are P wide
//   β = σ(W_b x),   α = exp( −e^{A_log} softplus(W_a x + dt_bias) )             one number a head
//   S ← α S;   S ← S + β k (v − Sᵀ k)ᵀ;   o = Sᵀ q                    the delta rule on a faded memory
//   out = W_o ( RMSNorm_h(o_h) ∘ silu(W_g x) )
//
// allow_neg_eigval: β = 2σ(…), so that the transition α(1 − β k kᵀ) may turn a direction round (Grazzi et
// al., "Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues", 2024).
//
// State per stream: the last d_conv − 1 inputs of each convolution, and S, one N × P matrix a head.
#include <cmath>

#include "brood/autograd/delta_scan.h"
#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

constexpr float kUnitEps = 1e-6f;  // of the unit keys and queries, as published

struct Shapes {
  int64_t d_model, heads, N, P, d_conv;
  bool negative;
  int64_t keys() const { return heads * N; }
  int64_t values() const { return heads * P; }
};

Shapes read_shapes(Settings& settings, int64_t d_model) {
  Shapes s;
  s.d_model = d_model;
  s.heads = settings.integer("n_head", 4, 1, 256);
  // As published, the keys of all heads take three quarters of d_model.
  const int64_t usual = (3 * d_model / (4 * s.heads) + 7) / 8 * 8;
  s.N = settings.integer("head_dim", std::max<int64_t>(8, usual), 1, 1024);
  s.P = s.N * settings.integer("expand_v", 2, 1, 16);
  s.d_conv = settings.integer("d_conv", 4, 2, 16);
  s.negative = settings.flag("allow_neg_eigval", false);
  return s;
}

class GatedDeltaNet final : public Block {
 public:
  GatedDeltaNet(const Shapes& s, const Place& place, ParameterStore& store, Random& random)
      : shapes_(s),
        norm_eps_(place.norm_eps),
        q_(store.add(place.prefix + "q_proj.weight", {s.keys(), s.d_model})),
        k_(store.add(place.prefix + "k_proj.weight", {s.keys(), s.d_model})),
        v_(store.add(place.prefix + "v_proj.weight", {s.values(), s.d_model})),
        a_(store.add(place.prefix + "a_proj.weight", {s.heads, s.d_model})),
        b_(store.add(place.prefix + "b_proj.weight", {s.heads, s.d_model})),
        g_(store.add(place.prefix + "g_proj.weight", {s.values(), s.d_model})),
        a_log_(store.add(place.prefix + "A_log", {s.heads})),
        dt_bias_(store.add(place.prefix + "dt_bias", {s.heads})),
        q_conv_(store.add(place.prefix + "q_conv1d.weight", {s.keys(), s.d_conv})),
        k_conv_(store.add(place.prefix + "k_conv1d.weight", {s.keys(), s.d_conv})),
        v_conv_(store.add(place.prefix + "v_conv1d.weight", {s.values(), s.d_conv})),
        norm_(store.add(place.prefix + "o_norm.weight", {s.P})),
        o_(store.add(place.prefix + "o_proj.weight", {s.d_model, s.values()})) {
    for (Parameter* p : {&q_, &k_, &v_, &a_, &b_, &g_}) initialise_uniform(*p, s.d_model, random);
    for (Parameter* p : {&q_conv_, &k_conv_, &v_conv_}) {
      p->file_shape = {p->value.shape()[0], 1, s.d_conv};
      initialise_uniform(*p, s.d_conv, random);
    }
    initialise_uniform(o_, s.values(), random, 1.0 / std::sqrt(double(place.n_layer)));
    for (Parameter* p : {&a_log_, &dt_bias_}) p->scan = true;
    for (Parameter* p : {&a_log_, &dt_bias_, &norm_}) p->decays = false;
    initialise_constant(norm_, 1.0f);
    for (int64_t h = 0; h < s.heads; ++h) {
      a_log_.value.f32()[h] = float(std::log(random.uniform(1e-3, 16)));
      dt_bias_.value.f32()[h] = step_size_bias(random);
    }
  }

  std::vector<StateSpec> state() const override {
    const int64_t taps = shapes_.d_conv - 1;
    return {{"conv_q", {taps, shapes_.keys()}},
            {"conv_k", {taps, shapes_.keys()}},
            {"conv_v", {taps, shapes_.values()}},
            {"memory", {shapes_.heads, shapes_.N, shapes_.P}}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const Chunk& chunk = context.chunk;
    Var q = causal_conv_silu(tape, linear(tape, x, q_), q_conv_, chunk, context.state[0]);
    Var k = causal_conv_silu(tape, linear(tape, x, k_), k_conv_, chunk, context.state[1]);
    Var v = causal_conv_silu(tape, linear(tape, x, v_), v_conv_, chunk, context.state[2]);
    q = scale(tape, unit_heads(tape, q), 1.0f / std::sqrt(float(shapes_.N)));
    k = unit_heads(tape, k);
    Var beta = sigmoid(tape, linear(tape, x, b_));
    if (shapes_.negative) beta = scale(tape, beta, 2.0f);
    Var alpha = exp(tape, decay_rates(tape, softplus(tape, linear(tape, x, a_), dt_bias_), a_log_));
    // S_t = α S + β k (v − α Sᵀk)ᵀ = α S − k (αβ Sᵀk)ᵀ + k (β v)ᵀ
    Var o = delta_scan(tape,
                       {.q = q,
                        .k = k,
                        .a = scale_heads(tape, k, scale(tape, mul(tape, alpha, beta), -1.0f)),
                        .b = k,
                        .w = alpha,
                        .v = scale_heads(tape, v, beta)},
                       shapes_.heads, chunk, context.state[3]);
    o = tape.folded(rms_norm(tape, tape.folded(o, shapes_.P), norm_, norm_eps_), shapes_.values());
    return linear(tape, swiglu(tape, linear(tape, x, g_), o), o_);
  }

 private:
  Var unit_heads(Tape& tape, Var x) const {
    return tape.folded(l2_norm(tape, tape.folded(x, shapes_.N), kUnitEps), shapes_.keys());
  }

  const Shapes shapes_;
  const float norm_eps_;
  Parameter &q_, &k_, &v_, &a_, &b_, &g_, &a_log_, &dt_bias_, &q_conv_, &k_conv_, &v_conv_, &norm_, &o_;
};

}  // namespace

std::unique_ptr<Block> make_gated_deltanet(Settings& settings, const Place& place, ParameterStore& store,
                                           Random& random) {
  return std::make_unique<GatedDeltaNet>(read_shapes(settings, place.d_model), place, store, random);
}

}  // namespace brood
