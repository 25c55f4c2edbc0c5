// The time mix of RWKV-7: Peng and others, "RWKV-7 Goose with Expressive Dynamic State Evolution" (2025). Form
// and initialisation follow the authors' repository, names the checkpoints of the flash-linear-attention
// library; see docs/rwkv.md.
//
//   x' = x one step earlier;   x_c = x + (x' − x)∘μ_c        for c of r, w, k, v, a, g
//   r = W_r x_r,   k = W_k x_k,   v = W_v x_v
//   w = exp(−e^{−1/2} σ(w_0 + W_2 tanh(W_1 x_w)))             decay, in (0.545, 1)
//   a = σ(a_0 + A_2 A_1 x_a)                                  in-context learning rate
//   g = G_2 σ(G_1 x_g)                                        gate
//   v ← v + (v of the first layer − v)∘σ(v_0 + V_2 V_1 x_v)   in layers after the first
//   κ = normalised per head(k∘k_k),   k ← k∘(1 + (a − 1)∘k_a)
//   S ← S diag(w) − (S κ)(κ∘a)ᵀ + v kᵀ,   y = S r             per head of N
//   out = W_o ( (GroupNorm_head(y) + (Σ_head r∘k∘r_k) v) ∘ g )
//
// State per stream: x', and S of all heads.
#include <cmath>
#include <numeric>
#include <optional>

#include "brood/autograd/delta_rule.h"
#include "brood/autograd/delta_scan.h"
#include "brood/autograd/token_shift.h"
#include "brood/blocks/registry.h"
#include "brood/blocks/rwkv.h"

namespace brood {

namespace {

struct Shapes {
  int64_t d_model, head_dim, heads, decay_rank, a_rank, v_rank, gate_rank;
};

Shapes read_shapes(Settings& settings, int64_t d_model) {
  Shapes s;
  s.d_model = d_model;
  s.head_dim = settings.integer("head_dim", std::gcd<int64_t>(d_model, 64), 1, 1024);
  if (!settings.has("head_dim") && s.head_dim < 8)
    fail(
        "{}: heads of {} channels, all that d_model {} and the usual 64 share, are too small to remember "
        "much; "
        "choose a d_model that is a multiple of 64, or give head_dim",
        settings.context(), s.head_dim, d_model);
  if (d_model % s.head_dim != 0)
    fail("{}: d_model {} is not a multiple of head_dim {}", settings.context(), d_model, s.head_dim);
  s.heads = d_model / s.head_dim;
  // 0: the authors' rule, a multiple of 32 near factor·sqrt(d_model).
  const auto rank = [&](const char* key, double factor) {
    const int64_t given = settings.integer(key, 0, 0, 1 << 16);
    if (given != 0) return given;
    return std::max<int64_t>(32, 32 * std::lround(factor * std::sqrt(double(d_model)) / 32));
  };
  s.decay_rank = rank("decay_low_rank_dim", 2.5);
  s.a_rank = rank("a_low_rank_dim", 2.5);
  s.v_rank = rank("v_low_rank_dim", 1.7);
  s.gate_rank = rank("gate_low_rank_dim", 5);
  return s;
}

// A map through few channels, out·in, and a bias where it has one.
struct LowRank {
  Parameter &in, &out;
  Parameter* bias = nullptr;
};

LowRank add_low_rank(ParameterStore& store, const std::string& name, const Shapes& s, int64_t rank,
                     Random& random) {
  LowRank map{rwkv::add_matrix(store, name + ".lora.0.weight", rank, s.d_model),
              rwkv::add_matrix(store, name + ".lora.2.weight", s.d_model, rank)};
  // `in` begins at zero; `out` the authors fill with a tenth of an orthogonal matrix, of this size.
  initialise_normal(map.out, random, 0.1 / std::sqrt(double(s.d_model)));
  return map;
}

template <class At>
LowRank add_low_rank(ParameterStore& store, const std::string& name, const Shapes& s, int64_t rank,
                     Random& random, const At& bias) {
  LowRank map = add_low_rank(store, name, s, rank, random);
  map.bias = &rwkv::add_vector(store, name + ".lora.2.bias", s.d_model, bias);
  map.bias->scan = true;
  return map;
}

// v of the first layer, for the others in the same forward pass. Where nothing is recorded a layer's memory is
// taken back before the next one begins: then the values are copied to memory of their own.
class FirstValues {
 public:
  void set(Tape& tape, Var v) {
    tape_ = &tape;
    v_ = v;
    if (!tape.recording()) kept_.assign(v.value(), v.value() + v.size());
  }
  Var get(Tape& tape, Var like) {
    BROOD_ASSERT(tape_ == &tape);
    return tape.recording() ? v_ : tape.leaf(kept_.data(), like.rows(), like.cols());
  }

 private:
  const Tape* tape_ = nullptr;
  Var v_;
  std::vector<float> kept_;
};

class Rwkv7 final : public Block {
 public:
  Rwkv7(const Shapes& s, const Place& place, ParameterStore& store, Random& random)
      : shapes_(s),
        norm_eps_(float(s.head_dim) * place.norm_eps),
        x_r_(shares(place, store, "x_r", 0.2)),
        x_w_(shares(place, store, "x_w", 0.9)),
        x_k_(shares(place, store, "x_k", 0.7)),
        x_v_(shares(place, store, "x_v", 0.7)),
        x_a_(shares(place, store, "x_a", 0.9)),
        x_g_(shares(place, store, "x_g", 0.2)),
        k_k_(vector(place, store, "k_k", [&](int64_t i) { return 0.71 - 0.1 * linear_at(i); })),
        k_a_(vector(place, store, "k_a", [](int64_t) { return 1.02; })),
        r_k_(store.add(place.prefix + "r_k", {s.heads, s.head_dim})),
        r_proj_(rwkv::add_matrix(store, place.prefix + "r_proj.weight", s.d_model, s.d_model)),
        k_proj_(rwkv::add_matrix(store, place.prefix + "k_proj.weight", s.d_model, s.d_model)),
        v_proj_(rwkv::add_matrix(store, place.prefix + "v_proj.weight", s.d_model, s.d_model)),
        o_proj_(rwkv::add_matrix(store, place.prefix + "o_proj.weight", s.d_model, s.d_model)),
        w_(add_low_rank(store, place.prefix + "w_lora", s, s.decay_rank, random,
                        [&](int64_t i) { return decay_at(i, place) + 0.5 + 2.5 * zigzag_at(i); })),
        a_(add_low_rank(store, place.prefix + "a_lora", s, s.a_rank, random,
                        [&](int64_t i) { return -0.19 + 0.3 * zigzag_at(i) + 0.4 * linear_at(i); })),
        g_(add_low_rank(store, place.prefix + "g_lora", s, s.gate_rank, random)),
        norm_weight_(
            vector(place, store, "g_norm.weight",
                   [&](int64_t) { return std::pow(double(place.layer + 1) / double(place.n_layer), 0.7); })),
        norm_bias_(vector(place, store, "g_norm.bias", [](int64_t) { return 0.0; })) {
    r_k_.decays = false;
    initialise_constant(r_k_, -0.04f);
    for (Parameter* p : {&r_proj_, &v_proj_}) initialise_uniform(*p, s.d_model, random, 0.5);
    initialise_uniform(k_proj_, s.d_model, random, 0.05);  // o_proj begins at zero
    const bool first = !place.shared;
    if (first) place.shared = std::make_shared<FirstValues>();
    first_values_ = std::static_pointer_cast<FirstValues>(place.shared);
    if (!first)
      v_.emplace(add_low_rank(store, place.prefix + "v_lora", s, s.v_rank, random,
                              [&](int64_t i) { return 0.73 - 0.4 * linear_at(i); }));
  }

  std::vector<StateSpec> state() const override {
    return {{"shift", {shapes_.d_model}}, {"memory", {shapes_.heads, shapes_.head_dim, shapes_.head_dim}}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const int64_t heads = shapes_.heads;
    const Var before = token_shift(tape, x, context.chunk, context.state[0]);
    const auto mixed = [&](Parameter& share) { return lerp(tape, x, before, share); };
    const Var r = linear(tape, mixed(x_r_), r_proj_), k = linear(tape, mixed(x_k_), k_proj_);
    const Var w =
        bounded_decay(tape, linear(tape, tanh(tape, linear(tape, mixed(x_w_), w_.in)), w_.out), *w_.bias);
    const Var a = rate(tape, mixed(x_a_), a_);
    const Var g = linear(tape, sigmoid(tape, linear(tape, mixed(x_g_), g_.in)), g_.out);
    const Var v = values(tape, mixed(x_v_));
    const DeltaKeyVars keys = delta_keys(tape, k, a, k_k_, k_a_, heads);
    Var y = delta_scan(tape, {.q = r, .k = keys.key, .a = keys.erased, .b = keys.replaced, .w = w, .v = v},
                       heads, context.chunk, context.state[1]);
    y = layer_norm(tape, tape.folded(y, shapes_.head_dim), norm_weight_, norm_bias_, norm_eps_);
    y = step_bonus(tape, tape.folded(y, shapes_.d_model), r, keys.key, v, r_k_, heads);
    return linear(tape, mul(tape, y, g), o_proj_);
  }

 private:
  // σ(bias + out·in·x)
  static Var rate(Tape& tape, Var x, const LowRank& map) {
    return sigmoid(tape, linear(tape, linear(tape, x, map.in), map.out, *map.bias));
  }

  Var values(Tape& tape, Var x_v) {
    const Var v = linear(tape, x_v, v_proj_);
    if (v_) return lerp(tape, v, first_values_->get(tape, v), rate(tape, x_v, *v_));
    first_values_->set(tape, v);
    return v;
  }

  // Where the authors let things begin, by channel: a line from −1/2 to 1/2, a zigzag from −1 to 1 in each head,
  // and decays from slow to fast.
  double along(int64_t i) const { return double(i) / double(std::max<int64_t>(1, shapes_.d_model - 1)); }
  double linear_at(int64_t i) const { return along(i) - 0.5; }
  double zigzag_at(int64_t i) const {
    const double middle = double(shapes_.head_dim - 1) / 2;
    const double z = (double(i % shapes_.head_dim) - middle) / std::max(middle, 0.5);
    return z * std::abs(z);
  }
  double decay_at(int64_t i, const Place& place) const {
    return -6 + 6 * std::pow(along(i), 1 + std::pow(rwkv::rising(place), 0.3));
  }

  static Parameter& shares(const Place& place, ParameterStore& store, const char* name, double power) {
    return rwkv::add_shares(store, place.prefix + name, place.d_model, [&](int64_t i) {
      return 1 - std::pow(double(i) / double(place.d_model), power * rwkv::falling(place));
    });
  }
  template <class At>
  static Parameter& vector(const Place& place, ParameterStore& store, const char* name, const At& at) {
    return rwkv::add_vector(store, place.prefix + name, place.d_model, at);
  }

  const Shapes shapes_;
  const float norm_eps_;  // of the heads
  Parameter &x_r_, &x_w_, &x_k_, &x_v_, &x_a_, &x_g_, &k_k_, &k_a_, &r_k_;
  Parameter &r_proj_, &k_proj_, &v_proj_, &o_proj_;
  LowRank w_, a_, g_;
  Parameter &norm_weight_, &norm_bias_;
  std::optional<LowRank> v_;  // not in the first layer
  std::shared_ptr<FirstValues> first_values_;
};

}  // namespace

std::unique_ptr<Block> make_rwkv7(Settings& settings, const Place& place, ParameterStore& store,
                                  Random& random) {
  return std::make_unique<Rwkv7>(read_shapes(settings, place.d_model), place, store, random);
}

}  // namespace brood
