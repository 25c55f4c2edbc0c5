// Mamba-3 with one input and one output a head (arXiv 2603.15569). Shapes and names as in the public
// state-spaces/mamba repository; docs/mamba3.md has equation ↔ line.
//
//   (z, x, B, C, dt, a, λ, θ) = in_proj(x)              d_inner = expand·d_model; H = d_inner/P heads, G groups
//   Δ = softplus(dt + dt_bias),   λ ← σ(λ)              one number a head
//   g = −max(f(a), 1e-4)·Δ,   f(a) = 1 + a above 0, 1/(1 − a) below
//   φ ← φ + π tanh(θ)·Δ                                 an angle for each head and pair
//   k = rot_φ( RMSNorm(B) + B_bias ),   q = rot_φ( RMSNorm(C) + C_bias )
//   S ← e^g (S + β k' x'ᵀ) + γ k xᵀ,   y = Sᵀ q + D x   γ = λΔ, β = (1−λ)Δ, k' and x' of the step before: the
//                                                       trapezoid rule, in place of a short convolution
//   out = out_proj( y ∘ silu(z) )
//
// State per stream: φ, S before the last step (N × P a head), and that step's γ, k and x, which wait for the
// next step's Δ.
#include <cmath>

#include "brood/autograd/phase.h"
#include "brood/autograd/scalar_scan.h"
#include "brood/autograd/token_shift.h"
#include "brood/blocks/initialise.h"
#include "brood/blocks/mamba_heads.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

constexpr float kNormEps = 1e-5f;  // of B and C, as published

struct Shapes : mamba::Heads {
  int64_t d_state = 0, angles = 0;
  int64_t keys() const { return groups * d_state; }
  int64_t projected() const { return 2 * d_inner + 2 * keys() + 3 * heads + angles; }
};

Shapes read_shapes(Settings& settings, int64_t d_model) {
  Shapes s{mamba::read_heads(settings, d_model)};
  s.d_state = settings.integer("d_state", 128, 4, 1024);
  const double turning = settings.number("rope_fraction", 0.5, 0.5, 1.0);
  s.angles = int64_t(double(s.d_state) * turning) / 2;
  return s;
}

class Mamba3 final : public Block {
 public:
  Mamba3(const Shapes& s, const Place& place, ParameterStore& store, Random& random)
      : shapes_(s),
        in_proj_(store.add(place.prefix + "in_proj.weight", {s.projected(), s.d_model})),
        dt_bias_(store.add(place.prefix + "dt_bias", {s.heads})),
        b_bias_(store.add(place.prefix + "B_bias", {s.heads, s.d_state})),
        c_bias_(store.add(place.prefix + "C_bias", {s.heads, s.d_state})),
        b_norm_(store.add(place.prefix + "B_norm.weight", {s.d_state})),
        c_norm_(store.add(place.prefix + "C_norm.weight", {s.d_state})),
        d_(store.add(place.prefix + "D", {s.heads})),
        out_proj_(store.add(place.prefix + "out_proj.weight", {s.d_model, s.d_inner})) {
    for (Parameter* p : {&b_bias_, &c_bias_}) p->file_shape = {s.heads, 1, s.d_state};
    for (Parameter* p : {&dt_bias_, &d_}) p->scan = true;
    for (Parameter* p : {&dt_bias_, &d_, &b_bias_, &c_bias_, &b_norm_, &c_norm_}) p->decays = false;
    initialise_uniform(in_proj_, s.d_model, random);
    initialise_uniform(out_proj_, s.d_inner, random, 1.0 / std::sqrt(double(place.n_layer)));
    for (Parameter* p : {&d_, &b_bias_, &c_bias_, &b_norm_, &c_norm_}) initialise_constant(*p, 1.0f);
    for (int64_t h = 0; h < s.heads; ++h) dt_bias_.value.f32()[h] = step_size_bias(random);
  }

  std::vector<StateSpec> state() const override {
    return {{"phase", {shapes_.heads, shapes_.angles}},
            {"gamma", {shapes_.heads}},
            {"value", {shapes_.heads, shapes_.head_dim}},
            {"key", {shapes_.heads, shapes_.d_state}},
            {"ssm", {shapes_.heads, shapes_.d_state, shapes_.head_dim}}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const int64_t heads = shapes_.heads, d_inner = shapes_.d_inner, keys = shapes_.keys();
    Var in = linear(tape, x, in_proj_);
    int64_t at = 0;
    const auto next = [&](int64_t cols) {
      at += cols;
      return tape.columns(in, at - cols, at);
    };
    Var z = next(d_inner), v = next(d_inner), B = next(keys), C = next(keys);
    Var dt = next(heads), a = next(heads), share = next(heads), angle = next(shapes_.angles);

    Var delta = softplus(tape, dt, dt_bias_);
    Var g = scale(tape, mul(tape, heavy_tail(tape, contiguous(tape, a), 1e-4f), delta), -1.0f);
    Var phase = phases(tape, tanh(tape, contiguous(tape, angle)), delta, context.chunk, context.state[0]);
    Var k = turned_heads(tape, B, b_norm_, b_bias_, phase),
        q = turned_heads(tape, C, c_norm_, c_bias_, phase);
    Var gamma = mul(tape, sigmoid(tape, contiguous(tape, share)), delta);
    Var y = trapezoid(context, contiguous(tape, v), k, q, g, gamma, delta);
    return linear(tape, swiglu(tape, contiguous(tape, z), y), out_proj_);
  }

 private:
  // What a step adds of its predecessor's k vᵀ decays as what the predecessor added of it. So R, all that is
  // known before a step, is one scan of the last steps' keys and values; the step's own share is added to its
  // output. With β = Δ − γ:
  //
  //   R_t = e^{g_t} (R_{t−1} + (γ_{t−1} + β_t) k_{t−1} v_{t−1}ᵀ),   y_t = R_tᵀ q_t + (γ_t k_t·q_t + D) v_t
  Var trapezoid(BlockContext& context, Var v, Var k, Var q, Var g, Var gamma, Var delta) const {
    Tape& tape = context.tape;
    const Chunk& chunk = context.chunk;
    const int64_t heads = shapes_.heads;
    Var beta = add(tape, delta, scale(tape, gamma, -1.0f));
    Var both = add(tape, token_shift(tape, gamma, chunk, context.state[1]), beta);
    Var known = scalar_scan(tape,
                            {.v = token_shift(tape, v, chunk, context.state[2]),
                             .k = token_shift(tape, k, chunk, context.state[3]),
                             .q = q,
                             .log_decay = g,
                             .weight = mul(tape, exp(tape, g), both)},
                            heads, heads, chunk, context.state[4]);
    Var own = add_bias(tape, mul(tape, gamma, dot_heads(tape, k, q, heads)), d_);
    return add(tape, known, scale_heads(tape, v, own));
  }

  Var turned_heads(Tape& tape, Var x, Parameter& norm, Parameter& bias, Var phase) const {
    Var unit = rms_norm(tape, tape.folded(contiguous(tape, x), shapes_.d_state), norm, kNormEps);
    return phase_rotary(tape, tape.folded(unit, shapes_.keys()), bias, phase, shapes_.heads, shapes_.groups);
  }

  const Shapes shapes_;
  Parameter &in_proj_, &dt_bias_, &b_bias_, &c_bias_, &b_norm_, &c_norm_, &d_, &out_proj_;
};

}  // namespace

std::unique_ptr<Block> make_mamba3(Settings& settings, const Place& place, ParameterStore& store,
                                   Random& random) {
  return std::make_unique<Mamba3>(read_shapes(settings, place.d_model), place, store, random);
}

}  // namespace brood
