#include "brood/learn/live.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace brood {

struct LiveLearner::Impl {
  Impl(Model& m, State& s, const LiveSettings& live)
      : model(m), state(s), settings(live), riding(live.optimiser), random(live.seed) {
    if (settings.rehearsals > 0) rehearsal_state = model.make_state(settings.rehearsals);
  }

  Model& model;
  State& state;  // at the first step of `window`
  LiveSettings settings;
  RidingOptimiser riding;
  Random random;
  Tape tape;
  Activity activity;

  int32_t last = -1;             // the token before the first pending one; −1 at the start of the stream
  std::vector<int32_t> pending;  // seen, not yet scored
  std::vector<int32_t> window_in, window_out;  // read since `state`: inputs and what followed them
  std::vector<int32_t> memory;                 // for rehearsal, a ring once it is full
  size_t memory_next = 0;
  State rehearsal_state;
  std::vector<int32_t> rehearsal_in, rehearsal_out;

  int64_t scored = 0, updates = 0, chunks = 0;
  double nats = 0;

  double learning_rate() const {
    const double peak = settings.optimiser.learning_rate;
    if (updates < settings.warmup) return peak * double(updates + 1) / double(settings.warmup);
    if (settings.decay_updates <= 0) return peak;
    return peak * std::max(settings.floor, 1.0 / std::sqrt(1.0 + double(updates) / settings.decay_updates));
  }

  double score_and_learn(size_t n);
  double pass(size_t n);
  void advance(size_t n);
  void update(Var loss);
  void remember(const int32_t* tokens, size_t n);
  void rehearse();
};

// The next n pending tokens: predicted, scored, learnt from.
double LiveLearner::Impl::score_and_learn(size_t n) {
  double cost = 0;
  size_t first = 0;
  if (last < 0) {  // nothing came before: any token is as likely as another
    cost += std::log(double(model.frame().vocab_size));
    last = pending[0];
    first = 1;
  }
  for (size_t i = first; i < n; ++i) {
    window_in.push_back(last);
    window_out.push_back(pending[i]);
    last = pending[i];
  }
  if (n > first) cost += pass(n - first);
  if (settings.rehearsals > 0) remember(pending.data(), n);
  pending.erase(pending.begin(), pending.begin() + int64_t(n));
  scored += int64_t(n);
  nats += cost;
  if (settings.learning && settings.rehearsals > 0 && ++chunks % settings.rehearse_every == 0) rehearse();
  return cost;
}

// One pass over the window whose last n steps are new.
double LiveLearner::Impl::pass(size_t n) {
  const size_t T = window_in.size();
  const bool slides = settings.learning && settings.window > settings.chunk;
  tape.start(settings.learning, Precision::kF32, &riding);
  Var logits = model.forward(tape, state, window_in, 1, int64_t(T),
                             {.training = settings.learning,
                              .keep_state = !slides,
                              .seed = uint64_t(updates),
                              .activity = &activity});
  Var loss = cross_entropy(tape, logits, window_out);
  double cost = 0;
  for (size_t i = T - n; i < T; ++i) cost += double(loss.value()[i]);
  if (settings.learning) update(loss);
  if (!slides) {
    window_in.clear();
    window_out.clear();
  } else if (const size_t keep = size_t(settings.window - settings.chunk); T > keep) {
    advance(T - keep);
  }
  return cost;
}

// Moves the start of the window on by n steps, reading them with the weights as they are now.
void LiveLearner::Impl::advance(size_t n) {
  tape.start(false);
  model.forward(tape, state, std::span(window_in).first(n), 1, int64_t(n), {.last_only = true});
  window_in.erase(window_in.begin(), window_in.begin() + int64_t(n));
  window_out.erase(window_out.begin(), window_out.begin() + int64_t(n));
}

void LiveLearner::Impl::update(Var loss) {
  riding.begin_step(learning_rate());
  tape.backward(loss, 1.0f / float(loss.rows()));
  ++updates;
}

void LiveLearner::Impl::remember(const int32_t* tokens, size_t n) {
  const size_t capacity = size_t(settings.rehearsal_memory);
  for (size_t i = 0; i < n; ++i) {
    if (memory.size() < capacity) {
      memory.push_back(tokens[i]);
    } else {
      memory[memory_next] = tokens[i];
      memory_next = (memory_next + 1) % capacity;
    }
  }
}

void LiveLearner::Impl::rehearse() {
  const size_t T = size_t(settings.rehearsal_window), B = size_t(settings.rehearsals);
  if (memory.size() < 2 * (T + 1)) return;
  rehearsal_in.clear();
  rehearsal_out.clear();
  for (size_t b = 0; b < B; ++b) {
    const size_t start = random.below(memory.size() - T);  // counted from the oldest token
    for (size_t t = 0; t < T; ++t) {
      rehearsal_in.push_back(memory[(memory_next + start + t) % memory.size()]);
      rehearsal_out.push_back(memory[(memory_next + start + t + 1) % memory.size()]);
    }
  }
  tape.start(true, Precision::kF32, &riding);
  Var logits = model.forward(tape, rehearsal_state, rehearsal_in, int64_t(B), int64_t(T),
                             {.training = true, .keep_state = false, .seed = uint64_t(updates)});
  update(cross_entropy(tape, logits, rehearsal_out));
}

LiveLearner::LiveLearner(Model& model, State& state, const LiveSettings& settings) {
  if (settings.chunk < 1) fail("live: a chunk of {} steps; it must be at least 1", settings.chunk);
  if (settings.window < settings.chunk)
    fail("live: the window of {} steps is shorter than the chunk of {}", settings.window, settings.chunk);
  if (settings.rehearsals > 0 && (settings.rehearsal_window < 1 || settings.rehearse_every < 1 ||
                                  settings.rehearsal_memory < 2 * (settings.rehearsal_window + 1)))
    fail("live: rehearsal needs a window and an interval of at least 1 and a memory of two windows");
  BROOD_ASSERT(state.streams == 1);
  impl_ = std::make_unique<Impl>(model, state, settings);
}

LiveLearner::~LiveLearner() = default;

double LiveLearner::observe(std::span<const int32_t> tokens) {
  double cost = 0;
  Impl& s = *impl_;
  for (int32_t token : tokens) {
    s.pending.push_back(token);
    if (int64_t(s.pending.size()) == s.settings.chunk) cost += s.score_and_learn(s.pending.size());
  }
  return cost;
}

double LiveLearner::flush() {
  Impl& s = *impl_;
  const double cost = s.pending.empty() ? 0.0 : s.score_and_learn(s.pending.size());
  if (!s.window_in.empty()) s.advance(s.window_in.size());
  return cost;
}

int64_t LiveLearner::scored() const { return impl_->scored; }
double LiveLearner::nats() const { return impl_->nats; }
int64_t LiveLearner::updates() const { return impl_->updates; }
const Activity& LiveLearner::activity() const { return impl_->activity; }

nlohmann::json LiveLearner::notes() const {
  const Impl& s = *impl_;
  return {{"last", s.last},
          {"pending", s.pending},
          {"window_in", s.window_in},
          {"window_out", s.window_out},
          {"scored", s.scored},
          {"nats", s.nats},
          {"updates", s.updates},
          {"chunks", s.chunks},
          {"random", s.random.state()}};
}

void LiveLearner::restore(const nlohmann::json& notes) {
  Impl& s = *impl_;
  try {
    s.last = notes.at("last").get<int32_t>();
    s.pending = notes.at("pending").get<std::vector<int32_t>>();
    s.window_in = notes.at("window_in").get<std::vector<int32_t>>();
    s.window_out = notes.at("window_out").get<std::vector<int32_t>>();
    s.scored = notes.at("scored").get<int64_t>();
    s.nats = notes.at("nats").get<double>();
    s.updates = notes.at("updates").get<int64_t>();
    s.chunks = notes.at("chunks").get<int64_t>();
    s.random.set_state(notes.at("random").get<std::array<uint64_t, 4>>());
  } catch (const nlohmann::json::exception& e) {
    fail(
        "live: the notes saved with the model cannot be read ({}); start from its weights alone by deleting "
        "optimizer.safetensors",
        e.what());
  }
  s.riding.set_steps(s.updates);
}

}  // namespace brood
