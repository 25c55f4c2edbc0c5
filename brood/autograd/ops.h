// The tape's operations. Each computes at once and, when recording, leaves its backward. Rows are b·T + t.
// Shapes are the callers' duty: a wrong one is an assertion, not an Error.
#pragma once

#include <cstdint>
#include <span>

#include "brood/autograd/tape.h"

namespace brood {

// A chunk: T consecutive steps of B independent streams. positions[b] counts the steps of stream b before
// this chunk. positions[b] == 0 is the start of a stream: its state is zero whatever its memory holds (Model
// clears small states; a block with a state in place looks at positions itself).
struct Chunk {
  int64_t B = 1, T = 1;
  const int64_t* positions = nullptr;
  bool training = false;  // dropout on
  bool keep_state =
      true;  // false: the caller throws the final state away, so large states need not be written
  int64_t rows() const { return B * T; }
};

// A recurrent state on the tape, [B, size]. When recording, `out` is arena memory that Model copies back at
// the end of the step; otherwise out and in are the same memory.
struct StateVar {
  Var in, out;
};

Var embedding(Tape& tape, std::span<const int32_t> tokens, Parameter& table);  // [rows, d], table [vocab, d]
Var linear(Tape& tape, Var x, Parameter& weight);                              // x Wᵀ, weight [out, in]
Var linear(Tape& tape, Var x, Parameter& weight, Parameter& bias);             // x Wᵀ + b, bias [out]
Var add_bias(Tape& tape, Var x, Parameter& bias);                              // to every row, bias [cols]
// x in channels of c = x.cols()/channels columns, each with a map of its own: weight [channels·c, c].
Var block_linear(Tape& tape, Var x, Parameter& weight, int64_t channels);
// weight [cols], or [n·cols]: row r is multiplied by its part r % n, which after Tape::folded is the group's
// own.
Var rms_norm(Tape& tape, Var x, Parameter& weight, float eps);
Var layer_norm(Tape& tape, Var x, float eps = 1e-5f);  // no affine part
// weight and bias [cols], or [n·cols], as of rms_norm: GroupNorm after Tape::folded.
Var layer_norm(Tape& tape, Var x, Parameter& weight, Parameter& bias, float eps);
// Rows of unit length: x / sqrt(Σ x² + eps). Of heads: after Tape::folded.
Var l2_norm(Tape& tape, Var x, float eps);
Var add(Tape& tape, Var a, Var b);
Var mul(Tape& tape, Var a, Var b);
Var contiguous(Tape& tape, Var x);  // x itself, or a copy of what a view sees
Var relu(Tape& tape, Var x);
Var squared_relu(Tape& tape, Var x);  // max(x, 0)²
Var silu(Tape& tape, Var x);
Var sigmoid(Tape& tape, Var x);
Var tanh(Tape& tape, Var x);
Var exp(Tape& tape, Var x);
Var gelu(Tape& tape, Var x);
Var heavy_tail(Tape& tape, Var x, float least);  // max(least, 1 + x or, below 0, 1/(1 − x))
Var scale(Tape& tape, Var x, float factor);
// x [rows, heads·c], each head's columns times its number in factor [rows, heads].
Var scale_heads(Tape& tape, Var x, Var factor);
// Head by head the product of a and b: [rows, heads].
Var dot_heads(Tape& tape, Var a, Var b, int64_t heads);
Var swiglu(Tape& tape, Var gate, Var up);
Var softplus(Tape& tape, Var x, Parameter& bias);           // log(1 + e^{x + bias}), bias [cols]
Var decay_rates(Tape& tape, Var x, Parameter& a_log);       // −e^{a_log}·x, a_log [cols]
Var dropout(Tape& tape, Var x, float rate, uint64_t seed);  // rate 0: x itself

// silu(conv(x)); weight [C, width], bias [C]; state [B, (width−1)·C]
Var causal_conv_silu(Tape& tape, Var x, Parameter& weight, Parameter& bias, const Chunk& chunk,
                     StateVar& state);

// The same without a bias.
Var causal_conv_silu(Tape& tape, Var x, Parameter& weight, const Chunk& chunk, StateVar& state);

// Traces of Mamba's scan (kernels/selective_traces.h), through which a_log, dt_bias and, where there is one, the weight
// that delta = low·weightᵀ comes from learn beyond the chunk. state [B, (2 + rank)·N·C], or empty: none are wanted.
struct SelectiveTraces {
  StateVar& state;
  Parameter* weight = nullptr;  // [C, rank]
  Var low{};
};

// Mamba's scan with its gate; a_log [C, N], d [C], dt_bias [C]; state [B, N·C]; a_transposed: −exp(a_log)ᵀ,
// [N, C]
Var selective_scan(Tape& tape, Var x, Var delta, Parameter& dt_bias, Parameter& a_log,
                   const float* a_transposed, Var input, Var output, Parameter& d, Var z, const Chunk& chunk,
                   StateVar& state, const SelectiveTraces* traces = nullptr);

Var rotary(Tape& tape, Var x, int64_t heads, const Chunk& chunk, float theta);

// Keys and values [rows, head_dim] are appended to the caches, which hold `capacity` rows a stream of which
// filled[b] are used before this chunk; a query sees at most `window` rows. The caches must have room for T
// more rows.
Var multi_query_attention(Tape& tape, Var q, Var k, Var v, int64_t heads, float* key_cache,
                          float* value_cache, int64_t capacity, const int64_t* filled, int64_t window,
                          const Chunk& chunk);

// Per-row loss in nats, [rows, 1]; targets −1 are ignored.
Var cross_entropy(Tape& tape, Var logits, std::span<const int32_t> targets);

}  // namespace brood
