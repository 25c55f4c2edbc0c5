// Sparse experts, the feed of Switch (Fedus, Zoph and Shazeer, "Switch Transformers", 2021) and its
// descendants: N small feeds, of which each step computes top_k.
//
//   s = σ(W_r x)  or  softmax(W_r x)                      router
//   chosen = the top_k largest of s + b                    b balances the loads and is in no weight
//   w_e = s_e;  top_k > 1: s_e / Σ_chosen s
//   out = Σ_{e chosen} w_e E_e(x)  +  E_shared(x)
//   E(x) = W_down( silu(W_gate x) ∘ W_up x )  or  W_down( max(W_up x, 0)² )
//
// σ, the bias and the experts that all steps share (one feed as wide as them all) are DeepSeek-V3's (2024), and
// so are the names of the parameters. A weight σ(z_e) depends on no other expert, so that experts can be added,
// taken out or lost; softmax weights all change with that.
#include "brood/autograd/experts.h"
#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

constexpr double kInitialScale = 0.1;
// In all layers together: each costs some thousand bytes beside its weights.
constexpr int64_t kMostExperts = 65536;

struct Shapes {
  int64_t d_model, width, shared;
  bool gated;  // experts are SwiGLUs
  kernels::Routing routing;
  float balance_rate;  // 0: no bias
};

// As wide as the dense feed of so many operations a step.
int64_t default_width(const Shapes& s) {
  const int64_t dense = s.gated ? (s.d_model * 8 / 3 + 31) / 32 * 32 : 4 * s.d_model;
  return std::max<int64_t>(16, (dense / (s.routing.top_k + s.shared) + 15) / 16 * 16);
}

Shapes read_shapes(Settings& settings, const Place& place) {
  Shapes s;
  s.d_model = place.d_model;
  s.routing.n_expert = settings.integer("n_expert", 8, 1, 4096);
  s.routing.top_k = settings.integer("top_k", 1, 1, 64);
  if (s.routing.top_k > s.routing.n_expert)
    fail("{}: top_k {} is more than there are experts (n_expert {})", settings.context(), s.routing.top_k,
         s.routing.n_expert);
  if (s.routing.n_expert * place.alike > kMostExperts)
    fail("{}: n_expert {} in {} layers are more experts than {}", settings.context(), s.routing.n_expert,
         place.alike, kMostExperts);
  s.shared = settings.integer("n_shared_expert", 0, 0, 64);
  s.gated = settings.choice("expert", "swiglu", {"swiglu", "relu2"}) == "swiglu";
  s.width = settings.integer("d_expert", 0, 0, 1 << 20);
  if (s.width == 0) s.width = default_width(s);
  settings.set_effective("d_expert", s.width);
  s.routing.softmax = settings.choice("router", "sigmoid", {"sigmoid", "softmax"}) == "softmax";
  s.routing.renormalise = s.routing.top_k > 1 && settings.flag("renormalise", true);
  const std::string balance = settings.choice("balance", "bias", {"bias", "loss", "none"});
  s.balance_rate = balance == "bias" ? float(settings.number("balance_rate", 1e-3, 1e-9, 1.0)) : 0.0f;
  s.routing.balance_loss = balance == "loss" ? float(settings.number("balance_loss", 1e-2, 0.0, 10.0)) : 0.0f;
  s.routing.z_loss = float(settings.number("z_loss", 0.0, 0.0, 10.0));
  return s;
}

class Switch final : public Block {
 public:
  Switch(const Shapes& s, const Place& place, ParameterStore& store, Random& random)
      : layer_(place.layer), shapes_(s) {
    set_.routing = s.routing;
    set_.router = &add(store, random, place.prefix + "gate.weight", s.routing.n_expert, s.d_model);
    set_.bias = nullptr;
    if (s.balance_rate > 0) {
      set_.bias = &store.add(place.prefix + "gate.e_score_correction_bias", {s.routing.n_expert});
      set_.bias->decays = false;
      set_.bias->balance_rate = s.balance_rate;
    }
    for (int64_t e = 0; e < s.routing.n_expert; ++e)
      set_.experts.push_back(
          add_expert(store, random, fmt::format("{}experts.{}.", place.prefix, e), s.width));
    if (s.shared > 0)
      shared_ = add_expert(store, random, place.prefix + "shared_experts.", s.shared * s.width);
  }

  std::vector<StateSpec> state() const override { return {}; }
  bool has_pass_losses() const override {
    return shapes_.routing.balance_loss > 0 || shapes_.routing.z_loss > 0;
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    Activity* activity = context.activity;
    const Var y = routed_feed(
        tape, x, set_, activity ? activity->experts_of(layer_, shapes_.routing.n_expert).data() : nullptr);
    return shapes_.shared > 0 ? brood::add(tape, y, feed(tape, x, shared_)) : y;
  }

 private:
  Parameter& add(ParameterStore& store, Random& random, const std::string& name, int64_t out, int64_t in) {
    Parameter& p = store.add(name, {out, in});
    initialise_truncated(p, in, random, kInitialScale);
    return p;
  }

  Expert add_expert(ParameterStore& store, Random& random, const std::string& prefix, int64_t width) {
    const int64_t d = shapes_.d_model;
    Parameter* gate = shapes_.gated ? &add(store, random, prefix + "gate_proj.weight", width, d) : nullptr;
    Parameter& up = add(store, random, prefix + "up_proj.weight", width, d);
    return {gate, &up, &add(store, random, prefix + "down_proj.weight", d, width)};
  }

  static Var feed(Tape& tape, Var x, const Expert& expert) {
    Var h = linear(tape, x, *expert.up);
    h = expert.gate ? swiglu(tape, linear(tape, x, *expert.gate), h) : squared_relu(tape, h);
    return linear(tape, h, *expert.down);
  }

  const int64_t layer_;
  const Shapes shapes_;
  ExpertSet set_;
  Expert shared_{};
};

}  // namespace

std::unique_ptr<Block> make_switch(Settings& settings, const Place& place, ParameterStore& store,
                                   Random& random) {
  return std::make_unique<Switch>(read_shapes(settings, place), place, store, random);
}

}  // namespace brood
