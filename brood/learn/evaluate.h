// What a text costs a model: in windows from a zero state, as training sees it, or as one stream.
#pragma once

#include <cstdint>
#include <functional>
#include <numbers>
#include <span>
#include <string>

#include "brood/model/model.h"

namespace brood {

struct Score {
  double nats = 0;     // total cost
  int64_t scored = 0;  // bytes predicted
  double nats_per_byte() const { return scored == 0 ? 0 : nats / double(scored); }
  double bits_per_byte() const { return nats_per_byte() / std::numbers::ln2; }
};

// How evenly rows fell on experts, over all layers that have any.
struct ExpertLoads {
  int64_t experts = 0;
  int64_t dead = 0;      // without a single row
  double violation = 0;  // of the worst layer: the busiest expert's rows over the mean, less 1 (MaxVio)
};
ExpertLoads expert_loads(const Activity& activity);

// The sum of a loss over its rows.
double total_nats(Var loss);

// How much of a text to read at a time where nothing is learnt: long enough for fast products, no longer than
// a model with a window of attention can see.
int64_t reading_chunk(const Model& model);

// Cuts the bytes into windows of T predictions, B at a time, each read from a zero state. Every byte but the
// first is predicted once; the last window may be shorter. `stop` is asked between windows and ends the work
// early. `activity`, when not null, is added to.
Score score_windows(Model& model, std::span<const uint8_t> bytes, int64_t B, int64_t T, Precision precision,
                    const std::function<bool()>& stop = {}, Activity* activity = nullptr);

// Reads the bytes as one stream, `chunk` at a time, from `state` on, which it advances. last: the token before
// the first byte, seen but not read by the state; −1: none, and the first byte is predicted by a uniform
// distribution. At the end the last byte in its turn is seen but not read. `activity`, when not null, is
// overwritten.
Score score_stream(Model& model, State& state, std::span<const uint8_t> bytes, int64_t chunk,
                   const std::function<bool()>& stop = {}, Activity* activity = nullptr, int32_t last = -1);

// The same, without a token before the first byte, and all that the model said: writes a safetensors
// file with "logits" [bytes, vocab_size] f32, whose row t is what it expects after byte t (so the last row is
// about a byte that never came), chunk by chunk and never held as a whole. `path` is there when the whole of
// it is; `stop` leaves what was there. Throws Error when it cannot be written, or would not fit on the disk.
// `activity`, when not null, is added to.
Score write_logits(Model& model, State& state, std::span<const uint8_t> bytes, int64_t chunk,
                   const std::string& path, const std::function<bool()>& stop = {},
                   Activity* activity = nullptr);

}  // namespace brood
