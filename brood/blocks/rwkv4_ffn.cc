// The channel mix of RWKV-4 (Peng and others, 2023): a squared rectifier behind a token shift, with a gate.
//
//   x' = x one step earlier;   x_c = μ_c∘x + (1 − μ_c)∘x'   for c of k, r
//   out = σ(W_r x_r) ∘ W_v ( max(W_k x_k, 0)² )
//
// State per stream: x'.
#include <cmath>

#include "brood/autograd/token_shift.h"
#include "brood/blocks/registry.h"
#include "brood/blocks/rwkv.h"

namespace brood {

namespace {

using rwkv::add_matrix;

class Rwkv4Ffn final : public Block {
 public:
  Rwkv4Ffn(int64_t d_ff, const Place& place, ParameterStore& store, Random& random)
      : d_(place.d_model),
        mix_k_(shares(place, store, "time_mix_key")),
        mix_r_(shares(place, store, "time_mix_receptance")),
        key_(add_matrix(store, place.prefix + "key.weight", d_ff, d_)),
        receptance_(add_matrix(store, place.prefix + "receptance.weight", d_, d_)),
        value_(add_matrix(store, place.prefix + "value.weight", d_, d_ff)) {
    // The other maps begin at zero.
    initialise_normal(key_, random, 1 / std::sqrt(double(d_)));
  }

  std::vector<StateSpec> state() const override { return {{"ffn_shift", {d_}}}; }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const Var before = token_shift(tape, x, context.chunk, context.state[0]);
    const Var awake = squared_relu(tape, linear(tape, lerp(tape, before, x, mix_k_), key_));
    const Var r = sigmoid(tape, linear(tape, lerp(tape, before, x, mix_r_), receptance_));
    return mul(tape, r, linear(tape, awake, value_));
  }

 private:
  static Parameter& shares(const Place& place, ParameterStore& store, const char* name) {
    return rwkv::add_shares(store, place.prefix + name, place.d_model, [&](int64_t i) {
      return std::pow(double(i) / double(place.d_model), rwkv::falling(place));
    });
  }

  const int64_t d_;
  Parameter &mix_k_, &mix_r_, &key_, &receptance_, &value_;
};

}  // namespace

std::unique_ptr<Block> make_rwkv4_ffn(Settings& settings, const Place& place, ParameterStore& store,
                                      Random& random) {
  const int64_t d_ff = settings.integer("d_ff", 0, 0, 1 << 20);
  return std::make_unique<Rwkv4Ffn>(d_ff == 0 ? 4 * place.d_model : d_ff, place, store, random);
}

}  // namespace brood
