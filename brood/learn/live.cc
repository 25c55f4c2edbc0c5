#include "brood/learn/live.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "brood/base/float_mode.h"
#include "brood/base/json.h"
#include "brood/learn/episodic_memory.h"
#include "brood/learn/evaluate.h"
#include "brood/learn/live_notes.h"
#include "brood/learn/rehearsal.h"
#include "brood/model/checkpoint.h"
#include "brood/model/diverged.h"

namespace brood {

namespace {

std::array<uint64_t, 4> random_state(const Notes& notes, const char* key) {
  const nlohmann::json& value = notes.list(key);
  std::array<uint64_t, 4> state{};
  const auto whole = [](const nlohmann::json& number) { return number.is_number_unsigned(); };
  if (value.size() == state.size() && std::all_of(value.begin(), value.end(), whole))
    state = value.get<std::array<uint64_t, 4>>();
  // All zero is the one state that such a generator never leaves.
  if (state == std::array<uint64_t, 4>{})
    notes.refuse(fmt::format("{} is {}, not the state of a generator", key, shown(value)));
  return state;
}

nlohmann::json noted(const Activity& activity) {
  return {{"active", activity.active},
          {"gated", activity.gated},
          {"samples", activity.samples},
          {"expert_rows", activity.expert_rows}};
}

// Notes of learners that did not keep it have none.
Activity activity_of(const Notes& notes) {
  Activity activity;
  if (!notes.has("activity")) return activity;
  const Notes noted = notes.part("activity");
  activity.active = noted.cost("active");
  activity.gated = noted.cost("gated");
  activity.samples = noted.count("samples");
  for (const auto& layer : noted.list("expert_rows")) {
    if (!layer.is_array()) noted.refuse("expert_rows is no list of lists");
    for (const auto& rows : layer) noted.whole(rows, "expert_rows", 0, Notes::kMostCount);
    activity.expert_rows.push_back(layer.get<std::vector<int64_t>>());
  }
  return activity;
}

void copy_tensor(const Tensor& from, Tensor& to) {
  if (from.empty()) {
    to = Tensor();
    return;
  }
  if (to.empty()) to = Tensor::uninitialized(from.shape());
  std::memcpy(to.data(), from.data(), size_t(from.bytes()));
}

void copy_learnt(const ParameterStore& from, ParameterStore& to) {
  auto w = to.all().begin();
  for (const Parameter& p : from.all()) {
    copy_tensor(p.value, w->value);
    copy_tensor(p.moment1, w->moment1);
    copy_tensor(p.moment2, w->moment2);
    w->gradient_open = false;
    ++w->version;
    ++w;
  }
}

bool is_finite(const Model& model, const State& state) {
  for (const Parameter& p : model.parameters().all())
    if (!is_finite(p.value) || !is_finite(p.moment1) || !is_finite(p.moment2)) return false;
  return std::all_of(state.tensors.begin(), state.tensors.end(),
                     [](const StateTensor& t) { return is_finite(t.value); });
}

}  // namespace

struct LiveLearner::Impl {
  Impl(Model& m, State& s, const LiveSettings& live, EpisodicMemory* e)
      : model(m),
        state(s),
        settings(live),
        episodes(e),
        riding(live.optimiser),
        random(live.seed),
        memory(live.rehearsal_memory, live.keep_every + 2 * live.chunk, live.distant_memory, live.seed) {
    if (settings.rehearsals > 0) rehearsal_state = model.make_state(settings.rehearsals);
  }

  Model& model;
  State& state;
  LiveSettings settings;
  EpisodicMemory* episodes;  // may be null
  RidingOptimiser riding;
  Random random;
  Tape tape;
  Activity activity;

  int32_t last = -1;             // the token before the first pending one; −1 at the start of the stream
  std::vector<int32_t> pending;  // seen, not yet scored
  std::vector<int32_t> inputs, targets;  // of one chunk
  RehearsalMemory memory;
  int64_t to_remember = 0;
  State rehearsal_state;
  std::vector<int32_t> window, rehearsal_in, rehearsal_out;

  DriftDetector drift;
  int64_t scored = 0, updates = 0, chunks = 0;
  double nats = 0, network_nats = 0;
  double slowness = 1;

  double learning_rate() const {
    const double peak = slowness * settings.optimiser.learning_rate;
    if (updates < settings.warmup) return peak * double(updates + 1) / double(settings.warmup);
    if (settings.decay_updates <= 0) return peak;
    return peak * std::max(settings.floor, 1.0 / std::sqrt(1.0 + double(updates) / settings.decay_updates));
  }

  double score_and_learn(size_t n);
  struct Cost {
    double nats = 0, network_nats = 0;  // as LiveLearner's
  };
  Cost pass();
  double see(std::span<const float> logits, int32_t token);
  void update(Var loss, double cost);
  void rehearse();
};

// The next n pending tokens: predicted, scored, learnt from.
double LiveLearner::Impl::score_and_learn(size_t n) {
  Cost cost;
  size_t first = 0;
  if (last < 0) {  // nothing came before: any token is as likely as another
    const double any = std::log(double(model.frame().vocab_size));
    cost = {episodes ? see({}, pending[0]) : any, any};
    last = pending[0];
    first = 1;
  }
  inputs.clear();
  targets.assign(pending.begin() + int64_t(first), pending.begin() + int64_t(n));
  for (size_t i = first; i < n; ++i) inputs.push_back(std::exchange(last, pending[i]));
  if (n > first) {
    const Cost rest = pass();
    cost = {cost.nats + rest.nats, cost.network_nats + rest.network_nats};
  }
  if (settings.rehearsals > 0) memory.add(std::span(pending).first(n));
  pending.erase(pending.begin(), pending.begin() + int64_t(n));
  drift.see(cost.network_nats / double(n), scored, scored + int64_t(n));
  scored += int64_t(n);
  nats += cost.nats;
  network_nats += cost.network_nats;
  if (settings.learning && settings.rehearsals > 0 && ++chunks % settings.rehearse_every == 0) rehearse();
  return cost.nats;
}

LiveLearner::Impl::Cost LiveLearner::Impl::pass() {
  tape.start(settings.learning, Precision::kF32, &riding);
  Var logits =
      model.forward(tape, state, inputs, 1, int64_t(inputs.size()),
                    {.training = settings.learning, .seed = uint64_t(updates), .activity = &activity});
  Var loss = cross_entropy(tape, logits, targets);
  const double alone = total_nats(loss);
  if (!settings.learning && !std::isfinite(alone))
    throw Diverged(
        "live: the cost is not a number any more, though nothing was learnt: weights or state are spoilt");
  double cost = alone;
  if (episodes && std::isfinite(alone)) {
    const size_t width = size_t(model.frame().vocab_size);
    cost = 0;
    for (size_t t = 0; t < targets.size(); ++t) cost += see({logits.value() + t * width, width}, targets[t]);
  }
  if (settings.learning) update(loss, alone);
  return {cost, alone};
}

// What the token costs model and memory together, which learns it. The logits are those of a model that has not
// seen it; those of a whole chunk are there before any of its tokens is learnt.
double LiveLearner::Impl::see(std::span<const float> logits, int32_t token) {
  if (token > 255) fail("live: token {} is no byte, and only bytes can be remembered", token);
  return episodes->see(logits, uint8_t(token), settings.remembering);
}

void LiveLearner::Impl::update(Var loss, double cost) {
  if (!std::isfinite(cost))
    throw Diverged(fmt::format(
        "live: the cost is not a number any more after {} updates: a smaller --learning-rate helps",
        updates));
  if (updates == 0) forget_moments(model.parameters());
  riding.begin_step(learning_rate());
  tape.backward(loss, 1.0f / float(loss.rows()));
  ++updates;
}

void LiveLearner::Impl::rehearse() {
  const size_t T = size_t(settings.rehearsal_window), B = size_t(settings.rehearsals);
  if (size_t(memory.size()) < 2 * (T + 1)) return;
  const int64_t fresh =
      drift.count() == 0 ? 0 : std::min(scored - drift.changes().back().from, memory.size());
  rehearsal_in.clear();
  rehearsal_out.clear();
  for (size_t b = 0; b < B; ++b) {
    window.clear();
    memory.draw(int64_t(T) + 1, fresh, settings.fresh_share, random, window);
    rehearsal_in.insert(rehearsal_in.end(), window.begin(), window.end() - 1);
    rehearsal_out.insert(rehearsal_out.end(), window.begin() + 1, window.end());
  }
  tape.start(true, Precision::kF32, &riding);
  Var logits = model.forward(tape, rehearsal_state, rehearsal_in, int64_t(B), int64_t(T),
                             {.training = true, .keep_state = false, .seed = uint64_t(updates)});
  const Var loss = cross_entropy(tape, logits, rehearsal_out);
  update(loss, total_nats(loss));
}

LiveLearner::LiveLearner(Model& model, State& state, const LiveSettings& settings, EpisodicMemory* memory) {
  if (settings.chunk < 1) fail("live: a chunk of {} steps; it must be at least 1", settings.chunk);
  if (settings.rehearsals > 0 &&
      (settings.rehearsal_window < 1 || settings.rehearse_every < 1 ||
       settings.rehearsal_memory < 2 * (settings.rehearsal_window + 1) || settings.distant_memory < 0))
    fail("live: rehearsal needs a window and an interval of at least 1 and a memory of two windows");
  BROOD_ASSERT(state.streams == 1);
  model.set_traces(state, settings.rtrl);
  if (memory && model.frame().vocab_size < 256)
    fail("live: a vocabulary of {} has no room for bytes, and only bytes can be remembered",
         model.frame().vocab_size);
  impl_ = std::make_unique<Impl>(model, state, settings, memory);
}

LiveLearner::~LiveLearner() = default;

double LiveLearner::observe(std::span<const int32_t> tokens) {
  double cost = 0;
  Impl& s = *impl_;
  const FlushDenormals no_denormals;
  const size_t chunk = size_t(s.settings.chunk);
  for (int32_t token : tokens) {
    s.pending.push_back(token);
    // More than a chunk waits when the notes restored are those of a learner with longer chunks.
    while (s.pending.size() >= chunk) cost += s.score_and_learn(chunk);
  }
  return cost;
}

double LiveLearner::flush() {
  Impl& s = *impl_;
  const FlushDenormals no_denormals;
  double cost = 0;
  while (!s.pending.empty()) cost += s.score_and_learn(std::min(s.pending.size(), size_t(s.settings.chunk)));
  return cost;
}

int64_t LiveLearner::scored() const { return impl_->scored; }
double LiveLearner::nats() const { return impl_->nats; }
double LiveLearner::network_nats() const { return impl_->network_nats; }
int64_t LiveLearner::updates() const { return impl_->updates; }
const Activity& LiveLearner::activity() const { return impl_->activity; }
const DriftDetector& LiveLearner::drift() const { return impl_->drift; }

nlohmann::json LiveLearner::notes() const {
  const Impl& s = *impl_;
  nlohmann::json notes = {{"last", s.last},
                          {"pending", s.pending},
                          {"scored", s.scored},
                          {"nats", s.nats},
                          {"updates", s.updates},
                          {"chunks", s.chunks},
                          {"random", s.random.state()},
                          {"remembered", s.memory.size()},
                          {"activity", noted(s.activity)},
                          {"drift", s.drift.notes()}};
  if (s.network_nats != s.nats) notes["network_nats"] = s.network_nats;
  return notes;
}

void LiveLearner::restore(const nlohmann::json& notes) {
  Impl& s = *impl_;
  const Notes reader = notes_of_learner(notes);
  const int64_t vocabulary = s.model.frame().vocab_size;
  // Learners that read some of the past again kept it here; the state saved with them is that of its
  // beginning.
  if (const auto window = notes.find("window_in"); window != notes.end() && !window->empty())
    reader.refuse("they are of a learner with a window, which is no longer known");
  const auto last = int32_t(reader.whole("last", -1, vocabulary - 1));
  std::vector<int32_t> pending;
  for (const auto& token : reader.list("pending"))
    pending.push_back(int32_t(reader.whole(token, "pending", 0, vocabulary - 1)));
  const int64_t scored = reader.count("scored");
  const double nats = reader.cost("nats");
  Activity activity = activity_of(reader);
  const int64_t remembered = reader.has("remembered") ? reader.count("remembered") : 0;
  const double network_nats = reader.has("network_nats") ? reader.cost("network_nats") : nats;
  DriftDetector drift;
  if (reader.has("drift")) drift.restore(reader.part("drift"));
  restore_optimiser(notes);
  s.drift = drift;
  s.activity = std::move(activity);
  s.memory.clear();
  s.to_remember = s.settings.rehearsals > 0 ? std::min(remembered, s.settings.rehearsal_memory) : 0;
  s.network_nats = network_nats;
  s.last = last;
  s.pending = std::move(pending);
  s.scored = scored;
  s.nats = nats;
}

int64_t LiveLearner::to_remember() const { return impl_->to_remember; }
void LiveLearner::remember(std::span<const int32_t> tokens) {
  impl_->memory.add(tokens);
  impl_->to_remember = 0;
}

void LiveLearner::remember_distant(const SafetensorsFile& file) {
  impl_->memory.distant().read(file, impl_->model.frame().vocab_size);
}

bool LiveLearner::copy_to(LiveCopy& copy) const {
  const Impl& s = *impl_;
  if (!is_finite(s.model, s.state)) return false;
  if (!copy.model) {
    copy.model = std::make_unique<Model>(s.model.config());
    copy.state = s.model.make_state(s.state.streams, s.state.traces);
  }
  copy_learnt(s.model.parameters(), copy.model->parameters());
  copy.state.copy_from(s.state);
  if (s.episodes) {
    if (!copy.memory) copy.memory = std::make_shared<EpisodicMemory>(s.episodes->log2_bytes());
    copy.memory->copy_from(*s.episodes);
  }
  copy.notes = notes();
  copy.remembered = s.memory.given();
  copy.distant = s.memory.distant();
  return true;
}

void LiveLearner::go_back(const LiveCopy& copy) {
  Impl& s = *impl_;
  s.tape.start(false);  // what an unfinished step would still do to the state is done before
  copy_learnt(copy.model->parameters(), s.model.parameters());
  s.state.copy_from(copy.state);
  if (s.episodes) s.episodes->copy_from(*copy.memory);
  RehearsalMemory memory = std::move(s.memory);
  restore(copy.notes);
  memory.go_back(copy.remembered, copy.distant);
  s.memory = std::move(memory);
  s.to_remember = 0;
}

void LiveLearner::slow_down(double share) { impl_->slowness = share; }

void LiveLearner::begin_after(int32_t token) {
  BROOD_ASSERT(-1 <= token && token < impl_->model.frame().vocab_size);
  impl_->last = token;
  impl_->pending.clear();
}

void LiveLearner::restore_optimiser(const nlohmann::json& notes) {
  Impl& s = *impl_;
  const Notes reader = notes_of_learner(notes);
  const int64_t updates = reader.count("updates"), chunks = reader.count("chunks");
  s.random.set_state(random_state(reader, "random"));
  s.updates = updates;
  s.chunks = chunks;
  s.riding.set_steps(updates);
}

}  // namespace brood
