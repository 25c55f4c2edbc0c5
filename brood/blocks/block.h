// Block: one architecture, written once as a function from (chunk, state in) to (outputs, state out). A chunk
// of one step is decoding; a long chunk is training or reading a prompt. A block file reads like its paper's
// equations and names its source; it knows no SIMD, no files, no threads.
//
// To add an architecture: one file here that makes a mixer (or a feed, or whole layers), one line in
// registry.cc, one test, one page.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "brood/autograd/ops.h"
#include "brood/base/random.h"
#include "brood/base/settings.h"

namespace brood {

// One tensor of a block's state, per stream; of constant size.
struct StateSpec {
  std::string name;  // "conv", "ssm", "synapses", "keys"
  Shape shape;       // per stream
  // A state too large to copy at each chunk: the block gets its memory itself (StateVar::in is out, a leaf
  // over it) and changes it in place, at tape.at_end() when recording. Others are read from `in` and written
  // to `out`.
  bool in_place = false;
  // What a step touches of it (model/cost.h): all of it, which is faded, added to and read; rows of a cache
  // twice as long as what is looked back at; rows of neurons, of which they or their pair are awake.
  enum class Use { kWhole, kCache, kNeurons } use = Use::kWhole;
  // How a diagonal recurrence moves with its own parameters (docs/rtrl.md): there only where a learner wants it; the
  // block's StateVar is empty elsewhere.
  bool trace = false;
};

// What a forward pass measured about itself, for people: shares of neurons awake, loads of experts.
struct Activity {
  double active = 0,
         gated = 0;     // sums over rows and layers of the share of neurons with x > 0, and with x∘y > 0
  int64_t samples = 0;  // how many (row, layer) pairs were counted
  std::vector<std::vector<int64_t>> expert_rows;  // [layer][expert]: rows that the router sent to it

  // Where a block with experts adds its counts.
  std::vector<int64_t>& experts_of(int64_t layer, int64_t n_expert) {
    if (int64_t(expert_rows.size()) <= layer) expert_rows.resize(size_t(layer) + 1);
    expert_rows[size_t(layer)].resize(size_t(n_expert));
    return expert_rows[size_t(layer)];
  }
};

struct BlockContext {
  Tape& tape;
  const Chunk& chunk;
  std::span<StateVar> state;  // one per StateSpec, [B, size] each
  Activity* activity;         // may be null
  uint64_t dropout_seed;      // differs per step and layer
};

// A layer, or the half of one that stands between a norm and a sum: a mixer, which looks along time, or a
// feed, which looks across channels.
class Block {
 public:
  virtual ~Block() = default;
  virtual std::vector<StateSpec> state() const = 0;
  virtual Var forward(BlockContext& context, Var x) = 0;  // [rows, d_model] → [rows, d_model]
  // Whether backward adds gradients of losses of its own that are means over all rows of a pass, so that those
  // of a pass in parts are not their sum.
  virtual bool has_pass_losses() const { return false; }
};

// What a model needs to know of an architecture beyond its blocks.
struct Frame {
  int64_t vocab_size, d_model, n_layer;
  bool tied_head = false;  // the head is the embedding
  // kLayer: LayerNorm without weights; kAffineLayer: with weight and bias (blocks/norm.h).
  enum class Norm { kNone, kLayer, kAffineLayer, kRms };
  Norm embedding_norm = Norm::kNone, final_norm = Norm::kNone;
  float norm_eps = 1e-5f;
  float embedding_stddev = 0.02f, head_stddev = 0.02f;
  // As the public checkpoints spell them; of norms the weight.
  std::string embedding_name, embedding_norm_name, final_norm_name, head_name;
  bool head_swapped_in_file = false;  // the public checkpoint stores the head [d_model, vocab]
};

struct Architecture {
  std::string name;  // "mamba"
  // Reads the keys it knows, makes the frame and says what it needs. Throws Error on impossible shapes.
  std::function<Frame(Settings&)> frame;
  // Makes the layers: adds parameters to the store (initialised from random) and returns one block a layer.
  std::function<std::vector<std::unique_ptr<Block>>(Settings&, const Frame&, ParameterStore&, Random&)>
      blocks;
};

const std::vector<Architecture>& architectures();              // blocks/registry.cc
const Architecture& find_architecture(std::string_view name);  // throws Error that lists the known ones

// Where in a stack (blocks/stack.h) a mixer or a feed is wanted.
struct Place {
  int64_t layer, n_layer, d_model;
  int64_t alike;       // layers of this stack with a mixer, or a feed, of the kind wanted here
  std::string prefix;  // of its parameters' names: "backbone.layers.3.mixer."
  float norm_eps;
  // Belongs to all places of one kind in this stack; empty at the first of them, which may leave something
  // for the others there.
  std::shared_ptr<void>& shared;
};

// A kind of mixer or feed. make reads the keys it knows and throws Error on impossible shapes. x is
// normalised when it comes in; what goes out is added to the stream.
struct Part {
  std::string name;  // "mamba"
  std::unique_ptr<Block> (*make)(Settings&, const Place&, ParameterStore&, Random&);
};

const std::vector<Part>& mixers();  // blocks/registry.cc
const std::vector<Part>& feeds();

}  // namespace brood
