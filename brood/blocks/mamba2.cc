// Mamba-2: Dao and Gu, "Transformers are SSMs" (2024), section 7. Shapes and names as in the public
// state-spaces/mamba repository; see docs/mamba2.md for equation ↔ line.
//
//   (z, x, B, C, dt) = in_proj(x)                        d_inner = expand·d_model; H = d_inner/P heads, G groups
//   (x, B, C) = silu( conv(x, B, C) )                    depthwise, causal, d_conv taps
//   Δ = softplus(dt + dt_bias),   g = −exp(A_log)·Δ      one number a head
//   S ← e^g S + Δ B xᵀ,   y = Sᵀ C + D x                 S: N × P; heads of a group share B and C
//   out = out_proj( RMSNorm_group( y ∘ silu(z) ) )
//
// State per stream: the last d_conv−1 inputs of the convolution, and S.
#include <algorithm>
#include <cmath>

#include "brood/autograd/scalar_scan.h"
#include "brood/blocks/initialise.h"
#include "brood/blocks/mamba_heads.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

struct Shapes : mamba::Heads {
  int64_t d_state = 0, d_conv = 0;
  int64_t mixed() const { return d_inner + 2 * groups * d_state; }  // columns of (x, B, C)
};

Shapes read_shapes(Settings& settings, int64_t d_model) {
  Shapes s{mamba::read_heads(settings, d_model)};
  s.d_state = settings.integer("d_state", 128, 1, 1024);
  s.d_conv = settings.integer("d_conv", 4, 2, 16);
  return s;
}

class Mamba2 final : public Block {
 public:
  Mamba2(const Shapes& s, const Place& place, ParameterStore& store, Random& random)
      : shapes_(s),
        norm_eps_(place.norm_eps),
        in_proj_(store.add(place.prefix + "in_proj.weight", {s.d_inner + s.mixed() + s.heads, s.d_model})),
        conv_weight_(store.add(place.prefix + "conv1d.weight", {s.mixed(), s.d_conv})),
        conv_bias_(store.add(place.prefix + "conv1d.bias", {s.mixed()})),
        dt_bias_(store.add(place.prefix + "dt_bias", {s.heads})),
        a_log_(store.add(place.prefix + "A_log", {s.heads})),
        d_(store.add(place.prefix + "D", {s.heads})),
        norm_(store.add(place.prefix + "norm.weight", {s.d_inner})),
        out_proj_(store.add(place.prefix + "out_proj.weight", {s.d_model, s.d_inner})) {
    conv_weight_.file_shape = {s.mixed(), 1, s.d_conv};
    for (Parameter* p : {&conv_bias_, &dt_bias_, &a_log_, &d_, &norm_}) p->decays = false;
    for (Parameter* p : {&dt_bias_, &a_log_, &d_}) p->scan = true;
    initialise_uniform(in_proj_, s.d_model, random);
    initialise_uniform(conv_weight_, s.d_conv, random);
    initialise_uniform(conv_bias_, s.d_conv, random);
    initialise_uniform(out_proj_, s.d_inner, random, 1.0 / std::sqrt(double(place.n_layer)));
    initialise_constant(d_, 1.0f);
    initialise_constant(norm_, 1.0f);
    for (int64_t h = 0; h < s.heads; ++h) {
      dt_bias_.value.f32()[h] = step_size_bias(random);
      a_log_.value.f32()[h] = float(std::log(random.uniform(1, 16)));
    }
  }

  std::vector<StateSpec> state() const override {
    return {{"conv", {shapes_.d_conv - 1, shapes_.mixed()}},
            {"ssm", {shapes_.heads, shapes_.d_state, shapes_.head_dim}}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const int64_t d_inner = shapes_.d_inner, gn = shapes_.groups * shapes_.d_state, mixed = shapes_.mixed();
    Var in = linear(tape, x, in_proj_);
    Var z = tape.columns(in, 0, d_inner), dt = tape.columns(in, d_inner + mixed, in.cols());
    Var xbc = causal_conv_silu(tape, tape.columns(in, d_inner, d_inner + mixed), conv_weight_, conv_bias_,
                               context.chunk, context.state[0]);
    dt = softplus(tape, dt, dt_bias_);
    Var y = scalar_scan(tape,
                        {.v = tape.columns(xbc, 0, d_inner),
                         .k = tape.columns(xbc, d_inner, d_inner + gn),
                         .q = tape.columns(xbc, d_inner + gn, mixed),
                         .log_decay = decay_rates(tape, dt, a_log_),
                         .weight = dt,
                         .skip = as_row(tape, d_)},
                        shapes_.heads, shapes_.groups, context.chunk, context.state[1]);
    y = swiglu(tape, contiguous(tape, z), y);
    y = rms_norm(tape, tape.folded(y, d_inner / shapes_.groups), norm_, norm_eps_);
    return linear(tape, tape.folded(y, d_inner), out_proj_);
  }

 private:
  const Shapes shapes_;
  const float norm_eps_;
  Parameter &in_proj_, &conv_weight_, &conv_bias_, &dt_bias_, &a_log_, &d_, &norm_, &out_proj_;
};

}  // namespace

std::unique_ptr<Block> make_mamba2(Settings& settings, const Place& place, ParameterStore& store,
                                   Random& random) {
  return std::make_unique<Mamba2>(read_shapes(settings, place.d_model), place, store, random);
}

}  // namespace brood
