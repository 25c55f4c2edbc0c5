#include "brood/model/model.h"

#include <algorithm>
#include <cstring>

#include "brood/base/memory.h"
#include "brood/blocks/initialise.h"

namespace brood {

namespace {

// Rows T−1, 2T−1, ... of x: the last step of each stream.
Var last_rows(Tape& tape, Var x, int64_t B, int64_t T) {
  BROOD_ASSERT(!tape.recording());
  Var y = tape.make(B, x.cols(), false);
  for (int64_t b = 0; b < B; ++b)
    std::memcpy(y.value() + b * x.cols(), x.value() + ((b + 1) * T - 1) * x.stride(),
                size_t(x.cols()) * sizeof(float));
  return y;
}

// Before a block: the initial state takes part in the gradient, which is taken out when the step is over.
void open_gradient(Tape& tape, Var initial, Tensor gradient) {
  tape.at_end([&tape, initial, to = gradient.f32()] {
    const size_t bytes = size_t(initial.size()) * sizeof(float);
    if (tape.has_gradient(initial))
      std::memcpy(to, tape.gradient(initial), bytes);
    else
      std::memset(to, 0, bytes);
  });
}

// After it: what comes back from the future.
void seed_gradient(Tape& tape, Var final, const Tensor& gradient) {
  std::memcpy(tape.gradient(final), gradient.f32(), size_t(final.size()) * sizeof(float));
}

}  // namespace

Model::Model(const nlohmann::json& config, uint64_t seed) : parameters_(std::make_unique<ParameterStore>()) {
  Settings settings(config, "config");
  architecture_ = settings.text("architecture", "");
  if (architecture_.empty()) fail("config: the key \"architecture\" is missing");
  const Architecture& architecture = find_architecture(architecture_);
  Random random(seed);
  frame_ = architecture.frame(settings);

  embedding_ = &parameters_->add(frame_.embedding_name, {frame_.vocab_size, frame_.d_model});
  initialise_normal(*embedding_, random, frame_.embedding_stddev);
  embedding_norm_ =
      Norm(frame_.embedding_norm, *parameters_, frame_.embedding_norm_name, frame_.d_model, frame_.norm_eps);
  blocks_ = architecture.blocks(settings, frame_, *parameters_, random);
  settings.finish();
  final_norm_ =
      Norm(frame_.final_norm, *parameters_, frame_.final_norm_name, frame_.d_model, frame_.norm_eps);
  head_ = embedding_;
  if (!frame_.tied_head) {
    head_ = &parameters_->add(frame_.head_name, {frame_.vocab_size, frame_.d_model});
    head_->swapped_in_file = frame_.head_swapped_in_file;
    initialise_normal(*head_, random, frame_.head_stddev);
  }
  for (const auto& block : blocks_) specs_.push_back(block->state());
  config_ = settings.effective();
}

bool Model::has_pass_losses() const {
  return std::any_of(blocks_.begin(), blocks_.end(),
                     [](const std::unique_ptr<Block>& block) { return block->has_pass_losses(); });
}

bool Model::has_traces() const {
  const auto has = [](const std::vector<StateSpec>& layer) {
    return std::any_of(layer.begin(), layer.end(), [](const StateSpec& spec) { return spec.trace; });
  };
  return std::any_of(specs_.begin(), specs_.end(), has);
}

State Model::make_state(int64_t streams, bool traces) const {
  if (traces && !has_traces())
    fail("model: a {} has no traces for real-time recurrent learning (--rtrl); mamba and s4d have",
         architecture_);
  require_memory(double(streams) * double(state_bytes_per_stream(traces)),
                 fmt::format("model: the states of {} streams", streams), "choose a smaller batch");
  State state;
  state.streams = streams;
  state.traces = traces;
  state.positions.assign(size_t(streams), 0);
  for (size_t layer = 0; layer < specs_.size(); ++layer) {
    for (const StateSpec& spec : specs_[layer]) {
      if (spec.trace && !traces) continue;
      std::vector<int64_t> extents{streams};
      for (int i = 0; i < spec.shape.rank(); ++i) extents.push_back(spec.shape[i]);
      state.tensors.push_back({fmt::format("layers.{}.{}", layer, spec.name),
                               Tensor::zeros(Shape(std::span(extents))), spec.in_place});
    }
  }
  return state;
}

void Model::set_traces(State& state, bool wanted) const {
  if (state.traces == wanted) return;
  State other = make_state(state.streams, wanted);
  other.positions = std::move(state.positions);
  for (StateTensor& to : other.tensors)
    for (StateTensor& from : state.tensors)
      if (from.name == to.name) to.value = std::move(from.value);
  state = std::move(other);
}

StateGradient Model::make_state_gradient(int64_t streams) const {
  State shaped = make_state(streams);
  StateGradient gradient;
  for (StateTensor& t : shaped.tensors) {
    if (t.in_place)
      fail("model: {} changes in place and has no gradient, so none goes from chunk to chunk in a {}", t.name,
           architecture_);
    gradient.tensors.push_back(std::move(t.value));
  }
  return gradient;
}

int64_t Model::state_bytes_per_stream(bool traces) const {
  int64_t n = 0;
  for (const auto& layer : specs_)
    for (const StateSpec& spec : layer)
      if (traces || !spec.trace) n += spec.shape.size() * int64_t(sizeof(float));
  return n;
}

Var Model::forward(Tape& tape, State& state, std::span<const int32_t> tokens, int64_t B, int64_t T,
                   const ForwardOptions& options) {
  BROOD_ASSERT(state.streams == B && int64_t(tokens.size()) == B * T && T > 0);
  for (int32_t token : tokens)
    if (token < 0 || token >= frame_.vocab_size)
      fail("model: token {} is outside the vocabulary of {}", token, frame_.vocab_size);
  StateGradient* const gradient = tape.recording() ? options.state_gradient : nullptr;
  BROOD_ASSERT(!gradient || (!state.traces && gradient->tensors.size() == state.tensors.size()));
  const Chunk chunk{.B = B,
                    .T = T,
                    .positions = state.positions.data(),
                    .training = options.training,
                    .keep_state = options.keep_state};

  Var x = embedding_norm_(tape, embedding(tape, tokens, *embedding_));
  // A pass that records nothing needs only x from one layer to the next: x moves here and the layer's memory
  // is reused.
  float* carried = tape.recording() ? nullptr : tape.arena().floats(x.size());
  const Arena::Mark mark = tape.arena().mark();
  size_t next = 0;
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    std::array<StateVar, 8> vars;
    const size_t first = next, n = specs_[layer].size();
    BROOD_ASSERT(n <= vars.size());
    for (size_t i = 0; i < n; ++i) {
      if (specs_[layer][i].trace && !state.traces) continue;
      StateTensor& t = state.tensors[next++];
      const int64_t size = t.value.size() / B;
      if (!t.in_place)
        for (int64_t b = 0; b < B; ++b)
          if (state.positions[size_t(b)] == 0)
            std::memset(t.value.f32() + b * size, 0, size_t(size) * sizeof(float));
      Var memory = tape.leaf(t.value.f32(), B, size, gradient != nullptr);
      if (!t.in_place && !options.keep_state && !tape.recording()) {
        // Operations that are not recorded write the final state over the initial one, which the caller wants
        // kept.
        memory = tape.make(B, size, false);
        std::memcpy(memory.value(), t.value.f32(), size_t(t.value.bytes()));
      }
      if (gradient) open_gradient(tape, memory, gradient->tensors[next - 1]);
      vars[i] = {memory, memory};
    }
    BlockContext context{.tape = tape,
                         .chunk = chunk,
                         .state = std::span(vars.data(), n),
                         .activity = options.activity,
                         .dropout_seed = options.seed * 1024 + layer};
    x = blocks_[layer]->forward(context, x);
    if (gradient) {
      size_t at = first;
      for (size_t i = 0; i < n; ++i)
        if (vars[i].in) seed_gradient(tape, vars[i].out, gradient->tensors[at++]);
    }
    for (size_t i = 0; i < n && options.keep_state; ++i) {
      const StateVar v = vars[i];
      if (!v.in || v.out.value() == v.in.value()) continue;
      tape.at_end([v] { std::memcpy(v.in.value(), v.out.value(), size_t(v.in.size()) * sizeof(float)); });
    }
    if (!tape.recording()) {
      const int64_t rows = x.rows(), cols = x.cols();
      std::memcpy(carried, x.value(), size_t(x.size()) * sizeof(float));
      tape.finish();
      tape.arena().release(mark);
      x = tape.leaf(carried, rows, cols);
    }
  }
  if (options.keep_state) {
    // Streams move on when the step is over: until then the recorded operations still see where they stood.
    State* moved = &state;
    const auto advance = [moved, T] {
      for (int64_t& position : moved->positions) position += T;
    };
    if (tape.recording()) {
      tape.at_end(advance);
    } else {
      tape.finish();
      advance();
    }
  }
  if (options.last_only) x = last_rows(tape, x, B, T);
  return linear(tape, final_norm_(tape, x), *head_);
}

}  // namespace brood
