// The time mix of RWKV-4: Peng and others, "RWKV: Reinventing RNNs for the Transformer Era" (2023). Names as in
// Hugging Face's checkpoints; see docs/rwkv.md.
//
//   x' = x one step earlier;   x_c = μ_c∘x + (1 − μ_c)∘x'   for c of r, k, v
//   r = W_r x_r,   k = W_k x_k,   v = W_v x_v
//   wkv_t = ( Σ_{i<t} e^{k_i − (t−1−i)w}∘v_i + e^{u + k_t}∘v_t ) / ( Σ_{i<t} e^{k_i − (t−1−i)w} + e^{u + k_t} )
//   out = W_o ( σ(r)∘wkv )
//
// State per stream: x', and three numbers a channel for the sums (kernels/wkv4.h).
#include <cmath>

#include "brood/autograd/token_shift.h"
#include "brood/autograd/wkv4.h"
#include "brood/blocks/registry.h"
#include "brood/blocks/rwkv.h"

namespace brood {

namespace {

using rwkv::add_matrix;
using rwkv::add_shares;
using rwkv::add_vector;

class Rwkv4 final : public Block {
 public:
  Rwkv4(const Place& place, ParameterStore& store, Random& random)
      : d_(place.d_model),
        mix_k_(shares(place, store, "time_mix_key", 1, 0)),
        mix_v_(shares(place, store, "time_mix_value", 1, 0.3 * rwkv::rising(place))),
        mix_r_(shares(place, store, "time_mix_receptance", 0.5, 0)),
        decay_(add_vector(store, place.prefix + "time_decay", d_,
                          [&](int64_t i) {
                            const double along = double(i) / double(std::max<int64_t>(1, d_ - 1));
                            return -5 + 8 * std::pow(along, 0.7 + 1.3 * rwkv::rising(place));
                          })),
        first_(add_vector(store, place.prefix + "time_first", d_,
                          [](int64_t i) { return std::log(0.3) + 0.5 * double((i + 1) % 3 - 1); })),
        key_(add_matrix(store, place.prefix + "key.weight", d_, d_)),
        value_(add_matrix(store, place.prefix + "value.weight", d_, d_)),
        receptance_(add_matrix(store, place.prefix + "receptance.weight", d_, d_)),
        output_(add_matrix(store, place.prefix + "output.weight", d_, d_)) {
    for (Parameter* p : {&decay_, &first_}) p->scan = true;
    // The other maps begin at zero.
    initialise_normal(value_, random, 1 / std::sqrt(double(d_)));
  }

  std::vector<StateSpec> state() const override { return {{"shift", {d_}}, {"average", {3, d_}}}; }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const Var before = token_shift(tape, x, context.chunk, context.state[0]);
    const Var r = linear(tape, lerp(tape, before, x, mix_r_), receptance_);
    const Var k = linear(tape, lerp(tape, before, x, mix_k_), key_);
    const Var v = linear(tape, lerp(tape, before, x, mix_v_), value_);
    const Var average = wkv4(tape, k, v, decay_, first_, context.chunk, context.state[1]);
    return linear(tape, mul(tape, sigmoid(tape, r), average), output_);
  }

 private:
  // (i/D)^(power·falling) + more
  static Parameter& shares(const Place& place, ParameterStore& store, const char* name, double power,
                           double more) {
    return add_shares(store, place.prefix + name, place.d_model, [&](int64_t i) {
      return std::pow(double(i) / double(place.d_model), power * rwkv::falling(place)) + more;
    });
  }

  const int64_t d_;
  Parameter &mix_k_, &mix_v_, &mix_r_, &decay_, &first_, &key_, &value_, &receptance_, &output_;
};

}  // namespace

std::unique_ptr<Block> make_rwkv4(Settings&, const Place& place, ParameterStore& store, Random& random) {
  return std::make_unique<Rwkv4>(place, store, random);
}

}  // namespace brood
