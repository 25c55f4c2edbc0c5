// The Transformer that everybody knows, as the baseline: pre-RMSNorm, rotary positions (Su et al. 2021),
// multi-query attention (Shazeer 2019), SwiGLU (Shazeer 2020); optionally PaLM's parallel layer (Chowdhery et
// al. 2022):
//
//   serial:    x ← x + W_o attention(norm1 x);   x ← x + W_down( silu(W_gate n)∘W_up n ), n = norm2 x
//   parallel:  n = norm1 x;   x ← x + W_o attention(n) + W_down( silu(W_gate n)∘W_up n )
//
// State per layer and stream: a cache of the last keys and values, which are all that a window of attention
// can see. The cache holds 2·window rows, so that old rows are moved out only once per `window` steps.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "brood/blocks/block.h"
#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"
#include "brood/kernels/attention.h"

namespace brood {

namespace {

struct Shapes {
  int64_t d_model, heads, head_dim, d_ff, window;
  bool parallel;
  double dropout;
  float rope_theta, norm_eps;
};

Shapes read_shapes(Settings& settings) {
  Shapes s;
  s.d_model = settings.integer("d_model", 128, 1, 1 << 16);
  s.heads = settings.integer("n_head", 4, 1, 1024);
  s.head_dim = settings.integer("head_dim", 0, 0, kernels::kMaxHeadDim);
  if (s.head_dim == 0) {
    if (s.d_model % s.heads)
      fail("{}: d_model {} is not a multiple of n_head {}; set head_dim or change one of them",
           settings.context(), s.d_model, s.heads);
    s.head_dim = s.d_model / s.heads;
  }
  if (s.head_dim > kernels::kMaxHeadDim)
    fail("{}: head_dim {} is more than {}; use more heads", settings.context(), s.head_dim,
         kernels::kMaxHeadDim);
  if (s.head_dim % 2)
    fail("{}: head_dim {} is odd; rotary positions need pairs", settings.context(), s.head_dim);
  s.d_ff = settings.integer("d_ff", 0, 0, 1 << 20);
  if (s.d_ff == 0) s.d_ff = (s.d_model * 8 / 3 + 31) / 32 * 32;
  s.window = settings.integer("window", 2048, 1, 1 << 24);
  s.parallel = settings.flag("parallel", false);
  s.dropout = settings.number("dropout", 0.0, 0.0, 0.95);
  s.rope_theta = float(settings.number("rope_theta", 10000.0, 1.0, 1e9));
  s.norm_eps = float(settings.number("norm_eps", 1e-5, 0.0, 1.0));
  return s;
}

class Transformer final : public Block {
 public:
  Transformer(const Shapes& shapes, int64_t layer, int64_t n_layer, ParameterStore& store, Random& random)
      : shapes_(shapes),
        norm1_(add(store, layer, "input_layernorm", {shapes.d_model})),
        q_(add(store, layer, "self_attn.q_proj", {shapes.heads * shapes.head_dim, shapes.d_model})),
        k_(add(store, layer, "self_attn.k_proj", {shapes.head_dim, shapes.d_model})),
        v_(add(store, layer, "self_attn.v_proj", {shapes.head_dim, shapes.d_model})),
        o_(add(store, layer, "self_attn.o_proj", {shapes.d_model, shapes.heads * shapes.head_dim})),
        norm2_(shapes.parallel ? norm1_ : add(store, layer, "post_attention_layernorm", {shapes.d_model})),
        gate_(add(store, layer, "mlp.gate_proj", {shapes.d_ff, shapes.d_model})),
        up_(add(store, layer, "mlp.up_proj", {shapes.d_ff, shapes.d_model})),
        down_(add(store, layer, "mlp.down_proj", {shapes.d_model, shapes.d_ff})) {
    const double residual =
        0.02 / std::sqrt(2.0 * double(n_layer));  // GPT-2: the residual stream keeps its scale
    for (Parameter* p : {&norm1_, &norm2_}) {
      p->decays = false;
      initialise_constant(*p, 1.0f);
    }
    for (Parameter* p : {&q_, &k_, &v_, &gate_, &up_}) initialise_normal(*p, random, 0.02);
    for (Parameter* p : {&o_, &down_}) initialise_normal(*p, random, residual);
  }

  std::vector<StateSpec> state() const override {
    const int64_t rows = 2 * shapes_.window;
    return {{"keys", {rows, shapes_.head_dim}, true},
            {"values", {rows, shapes_.head_dim}, true},
            {"filled", {1}, true}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    Var n = rms_norm(tape, x, norm1_, shapes_.norm_eps);
    Var attended = drop(context, linear(tape, attend(context, n), o_), 0);
    if (shapes_.parallel)
      return brood::add(tape, brood::add(tape, x, attended), drop(context, feed(tape, n), 1));
    x = brood::add(tape, x, attended);
    return brood::add(tape, x, drop(context, feed(tape, rms_norm(tape, x, norm2_, shapes_.norm_eps)), 1));
  }

 private:
  static Parameter& add(ParameterStore& store, int64_t layer, const char* name, const Shape& shape) {
    return store.add(fmt::format("model.layers.{}.{}.weight", layer, name), shape);
  }

  Var drop(BlockContext& context, Var x, uint64_t which) {
    if (!context.chunk.training) return x;
    return dropout(context.tape, x, float(shapes_.dropout), context.dropout_seed * 2 + which);
  }

  Var feed(Tape& tape, Var n) {
    return linear(tape, swiglu(tape, linear(tape, n, gate_), linear(tape, n, up_)), down_);
  }

  Var attend(BlockContext& context, Var n) {
    Tape& tape = context.tape;
    const Chunk& chunk = context.chunk;
    if (chunk.T > shapes_.window)
      fail(
          "transformer: a chunk of {} steps is longer than the window of {}; use shorter chunks or a larger "
          "window",
          chunk.T, shapes_.window);
    Var q = rotary(tape, linear(tape, n, q_), shapes_.heads, chunk, shapes_.rope_theta);
    Var k = rotary(tape, linear(tape, n, k_), 1, chunk, shapes_.rope_theta);
    Var v = linear(tape, n, v_);
    float *keys = context.state[0].in.value(), *values = context.state[1].in.value();
    const int64_t* filled = make_room(context, keys, values);
    return multi_query_attention(tape, q, k, v, shapes_.heads, keys, values, 2 * shapes_.window, filled,
                                 shapes_.window, chunk);
  }

  // Rows in use per stream before this chunk. Where the chunk would not fit, the rows that some query can
  // still see move to the front.
  const int64_t* make_room(BlockContext& context, float* keys, float* values) {
    const Chunk& chunk = context.chunk;
    const int64_t capacity = 2 * shapes_.window, dim = shapes_.head_dim;
    float* filled = context.state[2].in.value();
    int64_t* before = context.tape.arena().allocate_array<int64_t>(chunk.B);
    for (int64_t b = 0; b < chunk.B; ++b) {
      // A state read from a file may claim anything: never more rows than there are, or than steps were seen.
      const double claimed =
          std::clamp(double(filled[b]), 0.0, double(std::min(capacity, chunk.positions[b])));
      int64_t rows = int64_t(claimed);
      if (rows + chunk.T > capacity) {
        const int64_t keep = std::min(rows, shapes_.window - 1);
        for (float* cache : {keys, values}) {
          float* base = cache + b * capacity * dim;
          std::memmove(base, base + (rows - keep) * dim, size_t(keep * dim) * sizeof(float));
        }
        rows = keep;
      }
      before[b] = rows;
      filled[b] = float(chunk.keep_state ? rows + chunk.T : rows);  // exact: a window is at most 2^24 rows
    }
    return before;
  }

  Shapes shapes_;
  Parameter &norm1_, &q_, &k_, &v_, &o_, &norm2_, &gate_, &up_, &down_;
};

}  // namespace

Frame transformer_frame(Settings& settings) {
  const Shapes shapes = read_shapes(settings);
  Frame frame;
  frame.vocab_size = settings.integer("vocab_size", 256, 2, 1 << 20);
  frame.d_model = shapes.d_model;
  frame.n_layer = settings.integer("n_layer", 4, 1, 1024);
  frame.tied_head = settings.flag("tie_embeddings", true);
  frame.final_norm = Frame::Norm::kRms;
  frame.norm_eps = shapes.norm_eps;
  frame.embedding_name = "model.embed_tokens.weight";
  frame.final_norm_name = "model.norm.weight";
  frame.head_name = "lm_head.weight";
  return frame;
}

std::vector<std::unique_ptr<Block>> transformer_blocks(Settings& settings, const Frame& frame,
                                                       ParameterStore& store, Random& random) {
  const Shapes shapes = read_shapes(settings);
  std::vector<std::unique_ptr<Block>> blocks;
  for (int64_t i = 0; i < frame.n_layer; ++i)
    blocks.push_back(std::make_unique<Transformer>(shapes, i, frame.n_layer, store, random));
  return blocks;
}

}  // namespace brood
