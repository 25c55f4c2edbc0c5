// Selected neurons: a gated feed in which a selector, the gate, wakes a small share of the neurons at each step,
// and only those are computed.
//
//   g = ReLU( W_gate x − threshold )        or of these the top_k largest
//   out = W_down ( g ∘ W_up x )             rows of W_up and columns of W_down of sleeping neurons are not read
//
// The gate is ReGLU's (Shazeer, "GLU Variants Improve Transformer", 2020); skipping where it is zero is exact
// (Mirzadeh et al., "ReLU Strikes Back", 2023; PowerInfer, 2023, with a guess at the gate in its place).
// Rock AI describes its Yan models so ("a subset of neurons is activated by the input") without publishing
// equations: this is a reconstruction in kind.
#include "brood/autograd/selected.h"

#include <map>

#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

struct Shapes {
  int64_t d_model, d_ff, top_k;
  float threshold;
  Sparsity sparsity;
};

Shapes read_shapes(Settings& settings, int64_t d_model) {
  Shapes s;
  s.d_model = d_model;
  s.d_ff = settings.integer("d_ff", 0, 0, 1 << 20);
  if (s.d_ff == 0) s.d_ff = (d_model * 8 / 3 + 31) / 32 * 32;
  if (s.d_ff % 2 != 0) fail("{}: d_ff {} is odd; neurons come in pairs", settings.context(), s.d_ff);
  s.top_k = settings.integer("top_k", 0, 0, s.d_ff);
  s.threshold = float(settings.number("threshold", 0.0, 0.0, 1e6));
  const std::string sparse = settings.choice("sparse", "auto", {"auto", "always", "never"});
  s.sparsity = sparse == "auto" ? Sparsity::kAuto : sparse == "always" ? Sparsity::kAlways : Sparsity::kNever;
  return s;
}

// Layers of one width work in the same memory.
using Spaces = std::map<int64_t, std::shared_ptr<NeuronSpace>>;

class Selected final : public Block {
 public:
  Selected(const Shapes& s, std::shared_ptr<NeuronSpace> space, const Place& place, ParameterStore& store,
           Random& random)
      : shapes_(s),
        space_(std::move(space)),
        gate_(store.add(place.prefix + "gate_proj.weight", {s.d_ff, s.d_model})),
        up_(store.add(place.prefix + "up_proj.weight", {s.d_ff, s.d_model})),
        down_(store.add(place.prefix + "down_proj.weight", {s.d_ff, s.d_model})) {
    down_.swapped_in_file = true;  // neuron-major here, [d_model, d_ff] in files as every feed's
    for (Parameter* p : {&up_, &down_}) p->read = p->learnt = Touched::kAwake;
    for (Parameter* p : {&gate_, &up_}) initialise_normal(*p, random, 0.02);
    initialise_normal(down_, random, residual_stddev(place.n_layer));
  }

  std::vector<StateSpec> state() const override { return {}; }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    space_->begin_layer(tape);
    const Neurons g = awaken(tape, *space_, x, gate_, shapes_.threshold, shapes_.sparsity, shapes_.top_k);
    if (context.activity) {
      const double share = double(g.awake) / double(shapes_.d_ff);
      context.activity->active += share;
      context.activity->gated += share;
      context.activity->samples += g.rows;
    }
    return selected_sum(tape, *space_, g, x, up_, down_);
  }

 private:
  const Shapes shapes_;
  std::shared_ptr<NeuronSpace> space_;
  Parameter &gate_, &up_, &down_;
};

}  // namespace

std::unique_ptr<Block> make_selected(Settings& settings, const Place& place, ParameterStore& store,
                                     Random& random) {
  const Shapes shapes = read_shapes(settings, place.d_model);
  if (!place.shared) place.shared = std::make_shared<Spaces>();
  std::shared_ptr<NeuronSpace>& space = (*std::static_pointer_cast<Spaces>(place.shared))[shapes.d_ff];
  if (!space) space = std::make_shared<NeuronSpace>(1, std::span(&shapes.d_ff, 1), shapes.d_model);
  return std::make_unique<Selected>(shapes, space, place, store, random);
}

}  // namespace brood
