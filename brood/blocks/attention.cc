// Attention as the baseline: rotary positions (Su et al. 2021), many queries to one key and value (Shazeer
// 2019, "multi-query"), a window that ends the past:
//
//   q_h = rotate(W_q x)_h,  k = rotate(W_k x),  v = W_v x;   out = W_o [ softmax_s(q_h·k_s / √d) v_s ]_h
//
// State per stream: a cache of the last keys and values, which are all that a window can see. The cache holds
// 2·window rows, so that old rows are moved out only once per `window` steps.
#include "brood/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

struct Shapes {
  int64_t d_model, heads, head_dim, window;
  float rope_theta;
};

Shapes read_shapes(Settings& settings, int64_t d_model) {
  Shapes s;
  s.d_model = d_model;
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
  s.window = settings.integer("window", 2048, 1, 1 << 24);
  s.rope_theta = float(settings.number("rope_theta", 10000.0, 1.0, 1e9));
  return s;
}

class Attention final : public Block {
 public:
  Attention(const Shapes& shapes, const Place& place, ParameterStore& store, Random& random)
      : shapes_(shapes),
        q_(store.add(place.prefix + "q_proj.weight", {shapes.heads * shapes.head_dim, shapes.d_model})),
        k_(store.add(place.prefix + "k_proj.weight", {shapes.head_dim, shapes.d_model})),
        v_(store.add(place.prefix + "v_proj.weight", {shapes.head_dim, shapes.d_model})),
        o_(store.add(place.prefix + "o_proj.weight", {shapes.d_model, shapes.heads * shapes.head_dim})) {
    for (Parameter* p : {&q_, &k_, &v_}) initialise_normal(*p, random, 0.02);
    initialise_normal(o_, random, residual_stddev(place.n_layer));
  }

  std::vector<StateSpec> state() const override {
    const int64_t rows = 2 * shapes_.window;
    return {{"keys", {rows, shapes_.head_dim}, true, StateSpec::Use::kCache},
            {"values", {rows, shapes_.head_dim}, true, StateSpec::Use::kCache},
            {"filled", {1}, true}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const Chunk& chunk = context.chunk;
    if (chunk.T > shapes_.window)
      fail(
          "attention: a chunk of {} steps is longer than the window of {}; use shorter chunks or a larger "
          "window",
          chunk.T, shapes_.window);
    Var q = rotary(tape, linear(tape, x, q_), shapes_.heads, chunk, shapes_.rope_theta);
    Var k = rotary(tape, linear(tape, x, k_), 1, chunk, shapes_.rope_theta);
    Var v = linear(tape, x, v_);
    float *keys = context.state[0].in.value(), *values = context.state[1].in.value();
    const int64_t* filled = make_room(context, keys, values);
    Var read = multi_query_attention(tape, q, k, v, shapes_.heads, keys, values, 2 * shapes_.window, filled,
                                     shapes_.window, chunk);
    return linear(tape, read, o_);
  }

 private:
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
  Parameter &q_, &k_, &v_, &o_;
};

}  // namespace

std::unique_ptr<Block> make_attention(Settings& settings, const Place& place, ParameterStore& store,
                                      Random& random) {
  return std::make_unique<Attention>(read_shapes(settings, place.d_model), place, store, random);
}

}  // namespace brood
