// SwiGLU (Shazeer 2020), the feed of today's Transformers: out = W_down( silu(W_gate x) ∘ W_up x ).
#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

class SwiGlu final : public Block {
 public:
  SwiGlu(int64_t d_ff, const Place& place, ParameterStore& store, Random& random)
      : gate_(store.add(place.prefix + "gate_proj.weight", {d_ff, place.d_model})),
        up_(store.add(place.prefix + "up_proj.weight", {d_ff, place.d_model})),
        down_(store.add(place.prefix + "down_proj.weight", {place.d_model, d_ff})) {
    for (Parameter* p : {&gate_, &up_}) initialise_normal(*p, random, 0.02);
    initialise_normal(down_, random, residual_stddev(place.n_layer));
  }

  std::vector<StateSpec> state() const override { return {}; }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    return linear(tape, swiglu(tape, linear(tape, x, gate_), linear(tape, x, up_)), down_);
  }

 private:
  Parameter &gate_, &up_, &down_;
};

}  // namespace

std::unique_ptr<Block> make_swiglu(Settings& settings, const Place& place, ParameterStore& store,
                                   Random& random) {
  int64_t d_ff = settings.integer("d_ff", 0, 0, 1 << 20);
  if (d_ff == 0)
    d_ff = (place.d_model * 8 / 3 + 31) / 32 * 32;  // as many weights as 4·d_model without the gate
  return std::make_unique<SwiGlu>(d_ff, place, store, random);
}

}  // namespace brood
