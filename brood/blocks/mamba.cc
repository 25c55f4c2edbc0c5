// Mamba-1: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023), section 3.
// Shapes and names as in the public state-spaces/mamba repository; see docs/mamba.md for equation ↔ line.
//
//   out       = out_proj( y ∘ silu(z) )                     added to the stream; x comes normalised
//   (u, z)    = in_proj(x)                                  d_inner = expand·d_model each
//   u         = silu( conv(u) )                             depthwise, causal, d_conv taps
//   (δ, B, C) = x_proj(u)                                   dt_rank + d_state + d_state
//   Δ         = softplus( dt_proj(δ) + dt_bias )
//   h         = exp(ΔA)∘h + (Δ∘u) Bᵀ,   y = h C + D∘u       A = −exp(A_log)
//
// State per layer and stream: the last d_conv−1 inputs of the convolution, and h; for real-time recurrent learning the
// traces of h, too, through which A_log, dt_bias and dt_proj learn from all of the stream (docs/rtrl.md).
#include <algorithm>
#include <cmath>

#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"
#include "brood/kernels/selective_scan.h"

namespace brood {

namespace {

// A trace of dt_proj is dt_rank times the state.
constexpr int64_t kMostTracedRank = 16;

struct Shapes {
  int64_t d_model, d_inner, d_state, d_conv, dt_rank;
  int64_t traced_rank() const { return dt_rank <= kMostTracedRank ? dt_rank : 0; }
};

Shapes read_shapes(Settings& settings, int64_t d_model) {
  Shapes s;
  s.d_model = d_model;
  s.d_inner = s.d_model * settings.integer("expand", 2, 1, 16);
  s.d_state = settings.integer("d_state", 16, 1, kernels::kScanMaxStates);
  s.d_conv = settings.integer("d_conv", 4, 2, 16);
  s.dt_rank = settings.integer("dt_rank", 0, 0, 1 << 16);
  if (s.dt_rank == 0) s.dt_rank = (s.d_model + 15) / 16;
  return s;
}

class Mamba final : public Block {
 public:
  Mamba(const Shapes& shapes, const Place& place, ParameterStore& store, Random& random)
      : shapes_(shapes),
        in_proj_(store.add(place.prefix + "in_proj.weight", {2 * shapes.d_inner, shapes.d_model})),
        conv_weight_(store.add(place.prefix + "conv1d.weight", {shapes.d_inner, shapes.d_conv})),
        conv_bias_(store.add(place.prefix + "conv1d.bias", {shapes.d_inner})),
        x_proj_(
            store.add(place.prefix + "x_proj.weight", {shapes.dt_rank + 2 * shapes.d_state, shapes.d_inner})),
        dt_proj_(store.add(place.prefix + "dt_proj.weight", {shapes.d_inner, shapes.dt_rank})),
        dt_bias_(store.add(place.prefix + "dt_proj.bias", {shapes.d_inner})),
        a_log_(store.add(place.prefix + "A_log", {shapes.d_inner, shapes.d_state})),
        d_(store.add(place.prefix + "D", {shapes.d_inner})),
        out_proj_(store.add(place.prefix + "out_proj.weight", {shapes.d_model, shapes.d_inner})),
        a_(Tensor::uninitialized({shapes.d_state, shapes.d_inner})) {
    conv_weight_.file_shape = {shapes.d_inner, 1, shapes.d_conv};
    for (Parameter* p : {&conv_bias_, &dt_bias_, &a_log_, &d_}) p->decays = false;
    for (Parameter* p : {&dt_bias_, &a_log_, &d_}) p->scan = true;
    initialise(place.n_layer, random);
  }

  std::vector<StateSpec> state() const override {
    return {{"conv", {shapes_.d_conv - 1, shapes_.d_inner}},
            {"ssm", {shapes_.d_state, shapes_.d_inner}},
            {.name = "ssm_traces",
             .shape = {2 + shapes_.traced_rank(), shapes_.d_state, shapes_.d_inner},
             .trace = true}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const int64_t d_inner = shapes_.d_inner, rank = shapes_.dt_rank, n = shapes_.d_state;
    Var uz = linear(tape, x, in_proj_);
    Var u = tape.columns(uz, 0, d_inner), z = tape.columns(uz, d_inner, 2 * d_inner);
    u = causal_conv_silu(tape, u, conv_weight_, conv_bias_, context.chunk, context.state[0]);
    Var dbc = linear(tape, u, x_proj_);
    Var low = tape.columns(dbc, 0, rank), delta = linear(tape, low, dt_proj_);
    Var B = tape.columns(dbc, rank, rank + n), C = tape.columns(dbc, rank + n, rank + 2 * n);
    const bool traces_dt = shapes_.traced_rank() > 0;
    const SelectiveTraces traces{context.state[2], traces_dt ? &dt_proj_ : nullptr, low};
    Var y = selective_scan(tape, u, delta, dt_bias_, a_log_, decay(), B, C, d_, z, context.chunk,
                           context.state[1], &traces);
    return linear(tape, y, out_proj_);
  }

 private:
  void initialise(int64_t n_layer, Random& random) {
    initialise_uniform(in_proj_, shapes_.d_model, random);
    initialise_uniform(conv_weight_, shapes_.d_conv, random);
    initialise_uniform(conv_bias_, shapes_.d_conv, random);
    initialise_uniform(x_proj_, shapes_.d_inner, random);
    initialise_uniform(dt_proj_, shapes_.dt_rank, random);
    initialise_uniform(out_proj_, shapes_.d_inner, random, 1.0 / std::sqrt(double(n_layer)));
    initialise_constant(d_, 1.0f);
    for (int64_t c = 0; c < shapes_.d_inner; ++c) {
      dt_bias_.value.f32()[c] = step_size_bias(random);
      for (int64_t n = 0; n < shapes_.d_state; ++n)
        a_log_.value.f32()[c * shapes_.d_state + n] = float(std::log(double(n + 1)));
    }
  }

  // A = −exp(A_log), channels innermost, kept until A_log changes.
  const float* decay() {
    if (a_version_ != a_log_.version) {
      kernels::decay_matrix(shapes_.d_inner, shapes_.d_state, a_log_.value.f32(), a_.f32());
      a_version_ = a_log_.version;
    }
    return a_.f32();
  }

  Shapes shapes_;
  Parameter &in_proj_, &conv_weight_, &conv_bias_, &x_proj_, &dt_proj_, &dt_bias_, &a_log_, &d_, &out_proj_;
  Tensor a_;
  uint64_t a_version_ = 0;
};

}  // namespace

std::unique_ptr<Block> make_mamba(Settings& settings, const Place& place, ParameterStore& store,
                                  Random& random) {
  return std::make_unique<Mamba>(read_shapes(settings, place.d_model), place, store, random);
}

}  // namespace brood
