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
//
// Variants. "residual": "neurons" is the paper's equation 8, which adds up over the layers what the neurons
// do, not what they say:
//
//     X   = X_before + ReLU( x W_x ),  X_before = 0 at the first layer        x = LN( Z W_e )
//
// "detach": the past, R_s and x_s in a_t, is a constant to the gradient (§7.2: no backpropagation through
// time). "parts": the heads of several models side by side (model/merge.h), each with its own frequencies.
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
  bool joins;     // X adds up over the layers
  bool detached;  // no gradient through time
  Sparsity sparsity;
  std::vector<int64_t> parts;  // of a head, each with the frequencies of a head of its size
};

std::vector<int64_t> read_parts(Settings& settings, int64_t per_head) {
  if (!settings.has("parts")) return {per_head};
  const nlohmann::json given = settings.any("parts", nlohmann::json::array());
  const auto refuse = [&] {
    settings.refuse("parts",
                    fmt::format("a list of even numbers whose sum is n_neuron / n_head = {}", per_head));
  };
  std::vector<int64_t> parts;
  int64_t left = per_head;
  if (!given.is_array()) refuse();
  for (const auto& part : given) {
    if (!part.is_number_integer() || part < 2 || part > left || part.get<int64_t>() % 2 != 0) refuse();
    left -= parts.emplace_back(part.get<int64_t>());
  }
  if (left != 0) refuse();
  return parts;
}

Shapes read_shapes(Settings& settings) {
  Shapes s;
  s.d_model = settings.integer("d_model", 256, 1, 1 << 16);
  s.n_head = settings.integer("n_head", 4, 1, 1024);
  s.n_neuron = settings.integer("n_neuron", 32768, 2, int64_t(1) << 24);
  s.dropout = settings.number("dropout", 0.0, 0.0, 0.95);
  s.decay = settings.number("decay", 1.0, 0.001, 1.0);
  s.threshold = settings.number("threshold", 0.0, 0.0, 1e6);
  s.joins = settings.choice("residual", "stream", {"stream", "neurons"}) == "neurons";
  s.detached = settings.flag("detach", false);
  const std::string sparse = settings.choice("sparse", "auto", {"auto", "always", "never"});
  s.sparsity = sparse == "auto" ? Sparsity::kAuto : sparse == "always" ? Sparsity::kAlways : Sparsity::kNever;
  if (s.joins) {
    // What has added up is awake nearly everywhere: lists would be longer than the dense form.
    if (s.sparsity == Sparsity::kAlways)
      fail("{}: \"sparse\": \"always\" does not go with \"residual\": \"neurons\", which keeps most awake",
           settings.context());
    s.sparsity = Sparsity::kNever;
  }
  if (s.n_neuron % (2 * s.n_head) != 0)
    fail("{}: n_neuron {} is not a multiple of 2·n_head = {}; neurons turn in pairs within a head",
         settings.context(), s.n_neuron, 2 * s.n_head);
  s.parts = read_parts(settings, s.n_neuron / s.n_head);
  return s;
}

// What the neurons have done in the layers before, of the chunk under way.
class Joined {
 public:
  Neurons with(Tape& tape, NeuronSpace& space, bool first, const Neurons& X) {
    const Neurons sum = first ? X : joined(tape, space, before(tape, X), X);
    if (tape.recording())
      recorded_ = sum.values;
    else  // the next layer takes back this one's memory
      kept_.assign(sum.values.value(), sum.values.value() + sum.values.size());
    return sum;
  }

 private:
  Var before(Tape& tape, const Neurons& X) {
    return tape.recording() ? recorded_ : tape.leaf(kept_.data(), X.values.rows(), X.values.cols());
  }
  Var recorded_;
  std::vector<float> kept_;
};

// What all layers share.
struct Shared {
  explicit Shared(const Shapes& s) : space(s.n_head, s.parts, s.d_model) {}
  NeuronSpace space;
  Joined joined;
};

class Bdh final : public Block {
 public:
  Bdh(const Shapes& shapes, int64_t layer, std::shared_ptr<Shared> shared, Parameter& encoder,
      Parameter& encoder_v, Parameter& decoder)
      : shapes_(shapes),
        layer_(layer),
        shared_(std::move(shared)),
        encoder_(encoder),
        encoder_v_(encoder_v),
        decoder_(decoder) {}

  std::vector<StateSpec> state() const override {
    return {{"synapses",
             {shapes_.n_head, shapes_.n_neuron / shapes_.n_head, shapes_.d_model},
             true,
             StateSpec::Use::kNeurons},
            {"faded", {1}}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const Chunk& chunk = context.chunk;
    SynapseState rho{context.state[0].in.value(), context.state[1]};
    const float dropout = chunk.training ? float(shapes_.dropout) : 0.0f;
    int64_t gated_count = 0;
    NeuronSpace& space = shared_->space;
    space.begin_layer(tape, chunk);
    Neurons X = awaken(tape, space, x, encoder_, float(shapes_.threshold), shapes_.sparsity);
    if (shapes_.joins) X = shared_->joined.with(tape, space, layer_ == 0, X);
    const Var a = layer_norm(tape, recall(tape, space, X, x, chunk, shapes_.decay, shapes_.detached, rho));
    const Var y = layer_norm(
        tape, gated(tape, space, X, a, encoder_v_, decoder_, dropout, context.dropout_seed, &gated_count));
    if (context.activity) {
      context.activity->active += double(X.awake) / double(shapes_.n_neuron);
      context.activity->gated += double(gated_count) / double(shapes_.n_neuron);
      context.activity->samples += chunk.rows();
    }
    return shapes_.joins ? y : layer_norm(tape, add(tape, x, y));
  }

 private:
  const Shapes shapes_;
  const int64_t layer_;
  std::shared_ptr<Shared> shared_;
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
          .embedding_norm_name = "",
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
  // Y is wanted only where X is awake, and only what both gave reaches the decoder; backward, a neuron that sleeps
  // has no gradient, nor has its gate where the two do not meet.
  encoder.learnt = encoder_v.read = Touched::kAwake;
  encoder_v.learnt = decoder.read = decoder.learnt = Touched::kGated;
  auto shared = std::make_shared<Shared>(shapes);
  std::vector<std::unique_ptr<Block>> layers;
  for (int64_t layer = 0; layer < frame.n_layer; ++layer)
    layers.push_back(std::make_unique<Bdh>(shapes, layer, shared, encoder, encoder_v, decoder));
  return layers;
}

}  // namespace brood
