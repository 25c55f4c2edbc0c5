// Dragon Hatchling (BDH): Kosowski, Uznański, Chorowski, Stamirowska and Bartoszkiewicz, "The Dragon
// Hatchling: The Missing Link between the Transformer and Models of the Brain", arXiv 2509.26507 (2025).
// Form, names and initialisation follow the authors' listing (appendix E and the public repository); see
// docs/bdh.md.
//
//   x   = LN( embedding )
//   per layer, with the same three matrices in each, per head of N neurons:
//     X   = ReLU( x W_x )                     W_x: `encoder`
//     R   = X turned by its position          one frequency for each pair of neurons
//     a_t = Σ_{s<t} λ^(t−s) ⟨R_t, R_s⟩ x_s    synapses ρ ∈ R^{N×D} carry it from chunk to chunk; λ = 1 in
//                                             the paper
//     Y   = ReLU( LN(a) W_y )                 W_y: `encoder_v`
//     Z   = X ∘ Y                             dropout here
//     x   = LN( x + LN( Z W_e ) )             W_e: `decoder`, all heads together
//
// LN has no affine part. State per layer and stream: ρ of all heads, [n, D], and how much it has faded.
#include "brood/autograd/neurons.h"
#include "brood/blocks/block.h"
#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

constexpr double kInitialStddev = 0.02;

struct Shapes {
  int64_t d_model, n_head, n_neuron;
  double dropout, decay, threshold;
  Sparsity sparsity;
};

Shapes read_shapes(Settings& settings) {
  Shapes s;
  s.d_model = settings.integer("d_model", 256, 1, 1 << 16);
  s.n_head = settings.integer("n_head", 4, 1, 1024);
  s.n_neuron = settings.integer("n_neuron", 32768, 2, int64_t(1) << 24);
  s.dropout = settings.number("dropout", 0.0, 0.0, 0.95);
  s.decay = settings.number("decay", 1.0, 0.001, 1.0);
  s.threshold = settings.number("threshold", 0.0, 0.0, 1e6);
  const std::string sparse = settings.choice("sparse", "auto", {"auto", "always", "never"});
  s.sparsity = sparse == "auto" ? Sparsity::kAuto : sparse == "always" ? Sparsity::kAlways : Sparsity::kNever;
  if (s.n_neuron % (2 * s.n_head) != 0)
    fail("{}: n_neuron {} is not a multiple of 2·n_head = {}; neurons turn in pairs within a head",
         settings.context(), s.n_neuron, 2 * s.n_head);
  return s;
}

class Bdh final : public Block {
 public:
  Bdh(const Shapes& shapes, std::shared_ptr<NeuronSpace> space, Parameter& encoder, Parameter& encoder_v,
      Parameter& decoder)
      : shapes_(shapes),
        space_(std::move(space)),
        encoder_(encoder),
        encoder_v_(encoder_v),
        decoder_(decoder) {}

  std::vector<StateSpec> state() const override {
    return {{"synapses", {shapes_.n_head, shapes_.n_neuron / shapes_.n_head, shapes_.d_model}, true},
            {"faded", {1}}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const Chunk& chunk = context.chunk;
    SynapseState rho{context.state[0].in.value(), context.state[1]};
    const float dropout = chunk.training ? float(shapes_.dropout) : 0.0f;
    int64_t gated_count = 0;
    space_->begin_layer(tape, chunk);
    const Neurons X = awaken(tape, *space_, x, encoder_, float(shapes_.threshold), shapes_.sparsity);
    const Var a = layer_norm(tape, recall(tape, *space_, X, x, chunk, shapes_.decay, rho));
    const Var y = layer_norm(
        tape, gated(tape, *space_, X, a, encoder_v_, decoder_, dropout, context.dropout_seed, &gated_count));
    if (context.activity) {
      context.activity->active += double(X.awake) / double(shapes_.n_neuron);
      context.activity->gated += double(gated_count) / double(shapes_.n_neuron);
      context.activity->samples += chunk.rows();
    }
    return layer_norm(tape, add(tape, x, y));
  }

 private:
  const Shapes shapes_;
  std::shared_ptr<NeuronSpace> space_;  // of all layers
  Parameter &encoder_, &encoder_v_, &decoder_;
};

// Neuron-major here; [n_head, d_model, N] in the public checkpoints.
Parameter& add_encoder(ParameterStore& store, const char* name, const Shapes& s) {
  Parameter& p = store.add(name, {s.n_neuron, s.d_model});
  p.swapped_in_file = true;
  p.file_shape = {s.n_head, s.d_model, s.n_neuron / s.n_head};
  return p;
}

}  // namespace

Frame bdh_frame(Settings& settings) {
  const Shapes shapes = read_shapes(settings);
  return {.vocab_size = settings.integer("vocab_size", 256, 2, 1 << 24),
          .d_model = shapes.d_model,
          .n_layer = settings.integer("n_layer", 6, 1, 1024),
          .embedding_norm = Frame::Norm::kLayer,
          .embedding_stddev = float(kInitialStddev),
          .head_stddev = float(kInitialStddev),
          .embedding_name = "embed.weight",
          .final_norm_name = "",
          .head_name = "lm_head",
          .head_swapped_in_file = true};
}

std::vector<std::unique_ptr<Block>> bdh_blocks(Settings& settings, const Frame& frame, ParameterStore& store,
                                               Random& random) {
  const Shapes shapes = read_shapes(settings);
  Parameter& decoder = store.add("decoder", {shapes.n_neuron, shapes.d_model});
  Parameter& encoder = add_encoder(store, "encoder", shapes);
  Parameter& encoder_v = add_encoder(store, "encoder_v", shapes);
  for (Parameter* p : {&decoder, &encoder, &encoder_v}) initialise_normal(*p, random, kInitialStddev);
  auto space = std::make_shared<NeuronSpace>(shapes.n_head, shapes.n_neuron / shapes.n_head, shapes.d_model);
  std::vector<std::unique_ptr<Block>> layers;
  for (int64_t layer = 0; layer < frame.n_layer; ++layer)
    layers.push_back(std::make_unique<Bdh>(shapes, space, encoder, encoder_v, decoder));
  return layers;
}

}  // namespace brood
