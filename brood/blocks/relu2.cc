// Squared rectifier (So et al., "Primer", 2021), the feed of RWKV: out = W_down ( max(W_up x, 0)² ).
#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

class Relu2 final : public Block {
 public:
  Relu2(int64_t d_ff, const Place& place, ParameterStore& store, Random& random)
      : up_(store.add(place.prefix + "up_proj.weight", {d_ff, place.d_model})),
        down_(store.add(place.prefix + "down_proj.weight", {place.d_model, d_ff})) {
    initialise_normal(up_, random, 0.02);
    initialise_normal(down_, random, residual_stddev(place.n_layer));
  }

  std::vector<StateSpec> state() const override { return {}; }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    return linear(tape, squared_relu(tape, linear(tape, x, up_)), down_);
  }

 private:
  Parameter &up_, &down_;
};

}  // namespace

std::unique_ptr<Block> make_relu2(Settings& settings, const Place& place, ParameterStore& store,
                                  Random& random) {
  const int64_t d_ff = settings.integer("d_ff", 0, 0, 1 << 20);
  return std::make_unique<Relu2>(d_ff == 0 ? 4 * place.d_model : d_ff, place, store, random);
}

}  // namespace brood
