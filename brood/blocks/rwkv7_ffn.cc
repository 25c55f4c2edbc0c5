// The channel mix of RWKV-7 (Peng and others, 2025): a squared rectifier behind a token shift.
//
//   x' = x one step earlier;   out = W_v ( max(W_k (x + (x' − x)∘μ), 0)² )
//
// State per stream: x'.
#include <cmath>

#include "brood/autograd/token_shift.h"
#include "brood/blocks/registry.h"
#include "brood/blocks/rwkv.h"

namespace brood {

namespace {

class Rwkv7Ffn final : public Block {
 public:
  Rwkv7Ffn(int64_t d_ff, const Place& place, ParameterStore& store, Random& random)
      : d_(place.d_model),
        mix_(rwkv::add_vector(store, place.prefix + "x_k", d_,
                              [&](int64_t i) {
                                return 1 -
                                       std::pow(double(i) / double(d_), std::pow(rwkv::falling(place), 4));
                              })),
        key_(rwkv::add_matrix(store, place.prefix + "key.weight", d_ff, d_)),
        value_(rwkv::add_matrix(store, place.prefix + "value.weight", d_, d_ff)) {
    initialise_uniform(key_, d_, random, 0.5);  // the other map begins at zero
  }

  std::vector<StateSpec> state() const override { return {{"ffn_shift", {d_}}}; }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const Var before = token_shift(tape, x, context.chunk, context.state[0]);
    const Var awake = squared_relu(tape, linear(tape, lerp(tape, x, before, mix_), key_));
    return linear(tape, awake, value_);
  }

 private:
  const int64_t d_;
  Parameter &mix_, &key_, &value_;
};

}  // namespace

std::unique_ptr<Block> make_rwkv7_ffn(Settings& settings, const Place& place, ParameterStore& store,
                                      Random& random) {
  const int64_t d_ff = settings.integer("d_ff", 0, 0, 1 << 20);
  return std::make_unique<Rwkv7Ffn>(d_ff == 0 ? 4 * place.d_model : d_ff, place, store, random);
}

}  // namespace brood
