// The tape's operations for layers of rectified neurons with Hebbian synapses (Dragon Hatchling, arXiv
// 2509.26507).
//
//   X = awaken(x)             X = ReLU(x W_x − threshold)
//   a = recall(X, x)          a_t = Σ_{s<t} λ^(t−s) ⟨R_t, R_s⟩ x_s,  R = X turned by its position; per head
//   y = gated(X, a)           y = (X ∘ ReLU(a W_y)) W_e
//
// An activation is data: dense, [rows, n], or the lists of those awake. Both give the same numbers up to
// rounding; which is taken is decided by the share awake in this very chunk (Sparsity::kAuto), so results do
// not depend on history.
//
// In bf16 (Tape::precision) the products with weights read bf16 copies of these and add up in f32; what has
// no weights, the synapses and their reads, stays f32. Dense products round their other operand to bf16, too,
// those of lists do not, so that the two agree to a rounding of bf16.
//
// Neurons are cut into tiles of 64, so that a tile's weights stay in the caches next to a core while all
// steps of a chunk pass, and tiles into groups, fixed by shape alone. A group is a task; sums over neurons
// are made inside a group and then over groups in order, so results do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "brood/autograd/ops.h"
#include "brood/kernels/matmul.h"
#include "brood/kernels/neurons.h"

namespace brood {

enum class Sparsity : uint8_t { kAuto, kAlways, kNever };

struct NeuronTiling {
  std::vector<int64_t> begin;  // [tiles + 1] the first neuron of each tile; heads begin new tiles
  std::vector<int64_t> group;  // [groups + 1] the first tile of each group; heads begin new groups
  int64_t groups_per_head = 1;
  int64_t widest = 0;  // neurons of the widest tile
  int64_t tiles() const { return int64_t(begin.size()) - 1; }
  int64_t groups() const { return int64_t(group.size()) - 1; }
  int64_t width(int64_t tile) const { return begin[size_t(tile) + 1] - begin[size_t(tile)]; }
};

// What the operations of all layers share: tilings, the table of rotations, memory to work in. One chunk at a
// time: its backward must run before the next chunk's forward. Not thread-safe.
class NeuronSpace {
 public:
  // parts: the neurons of a head in groups, each of which turns as a whole head of its size does: what keeps
  // a head that was put together from others what they were. Even numbers; the sum is a head's neurons.
  NeuronSpace(int64_t heads, std::span<const int64_t> parts, int64_t d_model);

  const int64_t heads, per_head, d_model;
  int64_t neurons() const { return heads * per_head; }

  // Before the operations of a layer: brings the table of rotations up to the chunk. Layers that know no
  // positions (no recall) say only that they begin.
  void begin_layer(Tape& tape, const Chunk& chunk);
  void begin_layer(Tape& tape);

  const NeuronTiling& tiling(int64_t rows) const;
  const kernels::NeuronRotary& rotary() const { return rotary_; }
  uint64_t chunk_number() const { return chunk_number_; }
  // Memory that lasts as long as the layer's values, and such that each call takes back.
  Arena& lasting(Tape& tape) { return tape.recording() ? tape.arena() : layer_; }
  Arena& scratch();

 private:
  NeuronTiling fine_, coarse_;
  std::vector<uint64_t> turn_;
  std::vector<float> table_;
  std::vector<int64_t> positions_;  // the table's rows
  kernels::NeuronRotary rotary_;
  uint64_t chunk_number_ = 0;
  Arena layer_, scratch_;
};

// The activation of a layer. Lists: values is [1, number of entries].
struct Neurons {
  Var values;
  int64_t rows = 0;
  int64_t awake = 0;  // how many values are above 0
  bool dense = true;
  bool all = false;  // lists of all neurons: a dense layer of few rows
  const NeuronTiling* tiling = nullptr;
  const uint32_t* offset = nullptr;  // [tiles][rows + 1]
  const uint32_t* index = nullptr;
  // Steps [first, first + count) of a tile.
  kernels::RowLists tile(int64_t t, int64_t first, int64_t count) const {
    return {count, offset + t * (rows + 1) + first, index, tiling->begin[size_t(t)], tiling->width(t), true};
  }
  kernels::RowLists tile(int64_t t) const { return tile(t, 0, rows); }
};

// x [rows, D], encoder [n, D]. most above 0: of the neurons of a row above the threshold only the `most`
// strongest stay awake (of equals those of lower number).
// Throws Error when rows times neurons are more than 32 bits can count.
Neurons awaken(Tape& tape, NeuronSpace& space, Var x, Parameter& encoder, float threshold, Sparsity sparsity,
               int64_t most = 0);

// before + X: neurons that stay awake through the layers (the paper's equation 8). before: the values of such
// a sum, of the same chunk; X awakened with Sparsity::kNever, whose form does not depend on who is awake.
Neurons joined(Tape& tape, NeuronSpace& space, Var before, const Neurons& X);

// The synapses of a layer, per stream: ρ = λ^… Σ R_s x_sᵀ, [B, n, D] in place, kept as exp(−faded)·synapses
// so that fading need not touch them; faded [B, 1].
struct SynapseState {
  float* synapses;
  StateVar faded;
};
// The read of the past, the own step excluded: [rows·heads, D], row (b·T + t)·heads + h. λ = fade, in (0, 1].
//   a_t = ρ_tᵀ R_t,   ρ_{t+1} = λ(ρ_t + R_t x_tᵀ),   ρ = 0 at position 0
// detached: what is written, R_s and x_s for s < t, has no gradient, so none flows through time (the paper's
// §7.2).
Var recall(Tape& tape, NeuronSpace& space, const Neurons& X, Var x, const Chunk& chunk, double fade,
           bool detached, SynapseState& state);

// a as recall gives it (normalised), encoder_v and decoder [n, D]. [rows, D]. gated_count receives the number
// of z > 0.
Var gated(Tape& tape, NeuronSpace& space, const Neurons& X, Var a, Parameter& encoder_v, Parameter& decoder,
          float dropout, uint64_t seed, int64_t* gated_count);

// Shared by the operations' files: a matrix of rows of neurons, [n, D], as the precision asks for it.
class NeuronWeights {
 public:
  NeuronWeights() = default;
  NeuronWeights(Parameter& w, Precision precision)
      : D_(w.value.shape()[1]),
        full_(w.value.f32()),
        half_(precision == Precision::kBf16 ? w.half_value() : nullptr) {}
  bool half() const { return half_ != nullptr; }
  // Row `neuron`, as floats or Bf16.
  template <class T>
  const T* row(int64_t neuron) const {
    if constexpr (std::is_same_v<T, Bf16>)
      return half_ + neuron * D_;
    else
      return full_ + neuron * D_;
  }
  // kernels/neuron_rows.h; sums and steps are D wide.
  void accumulate(const kernels::RowLists& lists, const float* value, float* out) const;
  void dot(const kernels::RowLists& lists, const float* steps, int64_t steps_stride, float* out) const;

 private:
  int64_t D_ = 0;
  const float* full_ = nullptr;
  const Bf16* half_ = nullptr;
};

// x [rows, cols], contiguous, as a factor of a dense product: itself, or its bf16 copy in `memory`.
template <class T>
const T* product_operand(int64_t size, const float* x, Arena& memory) {
  if constexpr (std::is_same_v<T, Bf16>) {
    Bf16* copy = memory.allocate_array<Bf16>(size);
    kernels::convert(size, x, copy);
    return copy;
  } else {
    return x;
  }
}

// Adds partial[group][n] over groups in order into (or onto) out.
void sum_groups(int64_t groups, int64_t n, const float* partial, bool accumulate, float* out);

}  // namespace brood
