// Model: a configuration made flesh: embedding, blocks, head, and their parameters.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "brood/blocks/block.h"
#include "brood/blocks/norm.h"
#include "brood/model/state.h"

namespace brood {

struct ForwardOptions {
  bool training = false;   // dropout on
  bool keep_state = true;  // false: the final state is not needed (training on windows from a zero state)
  bool last_only = false;  // logits of the last step of each stream only, [B, vocab]: reading a prompt
  uint64_t seed = 0;       // of dropout; give each step its own
  Activity* activity = nullptr;  // receives the shares of neurons awake
  // For a tape that records: how the loss of what follows changes with the final state. forward() takes it
  // from here, and once the step is over the gradient with respect to the initial state stands in its place.
  // Handed from chunk to chunk, backwards, it makes of many chunks one (learn/chunked_backward.h). Not with traces,
  // which do the same forwards.
  StateGradient* state_gradient = nullptr;
};

class Model {
 public:
  // config: the JSON of config.json ("architecture" plus that architecture's keys). Weights are initialised
  // from seed. Throws Error on unknown keys, impossible shapes and models larger than this machine's memory.
  explicit Model(const nlohmann::json& config, uint64_t seed = 0);

  const nlohmann::json& config() const { return config_; }  // effective: defaults written out
  const Frame& frame() const { return frame_; }
  const std::string& architecture() const { return architecture_; }
  ParameterStore& parameters() { return *parameters_; }
  const ParameterStore& parameters() const { return *parameters_; }
  int64_t parameter_count() const { return parameters_->count(); }

  // Throws Error when so many would not fit into this machine's memory, and with traces when no recurrence of the
  // model has any. What is never written costs no memory.
  State make_state(int64_t streams, bool traces = false) const;
  // Adds traces to a state without, which begin at zero, or takes them away.
  void set_traces(State& state, bool wanted) const;
  // All zeros. Throws Error when the model has states without a gradient: those that change in place (synapses,
  // caches of keys).
  StateGradient make_state_gradient(int64_t streams) const;
  int64_t state_bytes_per_stream(bool traces = false) const;
  bool has_traces() const;       // whether a state can have any
  bool has_pass_losses() const;  // as of its blocks (blocks/block.h)

  // Reads a chunk: tokens[b·T + t], advances the state by T steps (when the tape records: once the step
  // ends), and returns logits [B·T, vocab]. The caller has called tape.start(). Tokens outside the vocabulary
  // throw Error.
  Var forward(Tape& tape, State& state, std::span<const int32_t> tokens, int64_t B, int64_t T,
              const ForwardOptions& options = {});

  std::vector<std::unique_ptr<Block>>& blocks() { return blocks_; }
  const std::vector<std::unique_ptr<Block>>& blocks() const { return blocks_; }

 private:
  nlohmann::json config_;
  std::string architecture_;
  Frame frame_;
  std::unique_ptr<ParameterStore> parameters_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<std::vector<StateSpec>> specs_;  // per layer
  Norm embedding_norm_, final_norm_;
  Parameter* embedding_ = nullptr;
  Parameter* head_ = nullptr;
};

}  // namespace brood
