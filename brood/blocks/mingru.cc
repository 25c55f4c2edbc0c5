// minGRU (Feng, Tung, Ahmed, Bengio and Hajimirsadeghi, "Were RNNs All We Needed?", 2024): a GRU whose gate
// does not look at its own state, so that a whole chunk can be computed at once.
//
//   z = σ(W_z x + b_z),   c = W_h x
//   h ← (1 − z) h + z c                       a moving average whose speed the stream decides
//   out = W_out h
//
// n_head: how many gates there are, each for d_model/n_head channels; as published one a channel.
// State per stream: h.
#include "brood/autograd/scalar_scan.h"
#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

class MinGru final : public Block {
 public:
  MinGru(int64_t heads, const Place& place, ParameterStore& store, Random& random)
      : d_model_(place.d_model),
        gate_(store.add(place.prefix + "gate.weight", {heads, d_model_})),
        gate_bias_(store.add(place.prefix + "gate.bias", {heads})),
        candidate_(store.add(place.prefix + "candidate.weight", {d_model_, d_model_})),
        out_(store.add(place.prefix + "out.weight", {d_model_, d_model_})) {
    gate_bias_.decays = false;
    for (Parameter* p : {&gate_, &gate_bias_, &candidate_, &out_}) initialise_uniform(*p, d_model_, random);
  }

  std::vector<StateSpec> state() const override { return {{"hidden", {d_model_}}}; }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const int64_t heads = gate_bias_.size();
    Var gate = linear(tape, x, gate_);
    Var one = tape.make(x.rows(), 1, false);
    std::fill_n(one.value(), one.size(), 1.0f);
    // log(1 − z) = log(1 − σ(gate)) = −softplus(gate)
    Var h = scalar_scan(tape,
                        {.v = linear(tape, x, candidate_),
                         .k = one,
                         .q = one,
                         .log_decay = scale(tape, softplus(tape, gate, gate_bias_), -1.0f),
                         .weight = sigmoid(tape, add_bias(tape, gate, gate_bias_))},
                        heads, 1, context.chunk, context.state[0]);
    return linear(tape, h, out_);
  }

 private:
  const int64_t d_model_;
  Parameter &gate_, &gate_bias_, &candidate_, &out_;
};

}  // namespace

std::unique_ptr<Block> make_mingru(Settings& settings, const Place& place, ParameterStore& store,
                                   Random& random) {
  const int64_t heads = settings.integer("n_head", place.d_model, 1, place.d_model);
  if (place.d_model % heads != 0)
    fail("{}: d_model {} is not a multiple of n_head {}", settings.context(), place.d_model, heads);
  return std::make_unique<MinGru>(heads, place, store, random);
}

}  // namespace brood
