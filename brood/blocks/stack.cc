#include "brood/blocks/stack.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "brood/blocks/norm.h"

namespace brood {

namespace {

constexpr int64_t kMostLayers = 1024;

class Layer final : public Block {
 public:
  // feed may be null; feed_norm is empty when there is none or it shares the mixer's.
  Layer(std::unique_ptr<Block> mixer, std::unique_ptr<Block> feed, const Norm& mixer_norm,
        std::optional<Norm> feed_norm, float dropout)
      : mixer_(std::move(mixer)),
        feed_(std::move(feed)),
        mixer_norm_(mixer_norm),
        feed_norm_(std::move(feed_norm)),
        dropout_(dropout),
        mixer_states_(mixer_->state().size()) {}

  std::vector<StateSpec> state() const override {
    std::vector<StateSpec> specs = mixer_->state();
    if (feed_) {
      for (StateSpec& spec : feed_->state()) specs.push_back(std::move(spec));
    }
    return specs;
  }

  bool has_pass_losses() const override {
    return mixer_->has_pass_losses() || (feed_ && feed_->has_pass_losses());
  }

  Var forward(BlockContext& context, Var x) override {
    const Var n = mixer_norm_(context.tape, x);
    x = add(context.tape, x, drop(context, part(context, *mixer_, n, 0, mixer_states_), 0));
    if (!feed_) return x;
    const Var m = feed_norm_ ? (*feed_norm_)(context.tape, x) : n;
    return add(context.tape, x,
               drop(context, part(context, *feed_, m, mixer_states_, context.state.size()), 1));
  }

 private:
  // Runs a half with its own states: [first, end).
  static Var part(BlockContext& context, Block& half, Var x, size_t first, size_t end) {
    BlockContext own = context;
    own.state = context.state.subspan(first, end - first);
    return half.forward(own, x);
  }

  Var drop(BlockContext& context, Var x, uint64_t which) const {
    if (!context.chunk.training) return x;
    return dropout(context.tape, x, dropout_, context.dropout_seed * 2 + which);
  }

  std::unique_ptr<Block> mixer_, feed_;
  const Norm mixer_norm_;
  const std::optional<Norm> feed_norm_;
  const float dropout_;
  const size_t mixer_states_;
};

// The parts that one key of the configuration names, in turn over the layers.
class Parts {
 public:
  Parts(Settings& settings, const char* key, const char* fixed, const std::vector<Part>& known,
        bool may_be_none)
      : settings_(settings),
        key_(key),
        known_(known),
        may_be_none_(may_be_none),
        configured_(may_be_none || !*fixed) {
    nlohmann::json given = fixed;
    if (configured_) given = settings.any(key, fixed);
    if (given == "") fail("{}: the key \"{}\" is missing", settings.context(), key);
    list_ = given.is_array();
    if (!list_) given = nlohmann::json::array({given});
    if (given.empty() || int64_t(given.size()) > kMostLayers) refuse();
    for (nlohmann::json& one : given) turns_.push_back(read(std::move(one)));
  }

  bool any() const {
    return std::any_of(turns_.begin(), turns_.end(), [](const Turn& turn) { return turn.part != nullptr; });
  }
  // Null where none is wanted.
  std::unique_ptr<Block> make(const Place& place, ParameterStore& store, Random& random) {
    Turn& turn = turns_[size_t(place.layer) % turns_.size()];
    if (!turn.part) return nullptr;
    return turn.part->make(turn.own ? *turn.own : named(*turn.part), place, store, random);
  }
  // Layers, of so many, that have the kind that stands at this one.
  int64_t alike(int64_t layer, int64_t n_layer) const {
    const auto part = [&](int64_t i) { return turns_[size_t(i) % turns_.size()].part; };
    int64_t count = 0;
    for (int64_t i = 0; i < n_layer; ++i) count += part(i) == part(layer);
    return count;
  }
  // What all places of the kind that stands at this layer share.
  std::shared_ptr<void>& shared(int64_t layer) { return shared_[turns_[size_t(layer) % turns_.size()].part]; }

  // When all layers are made: what the parts understood is written down in the configuration. Parts given by
  // name read its keys with defaults of their own, and where two of these differ no one value builds the same
  // again: such parts are written down as objects.
  static void write_down(Settings& settings, std::initializer_list<Parts*> all) {
    std::set<std::string> unclear;
    nlohmann::json values = settings.effective();
    for (Parts* parts : all)
      for (const auto& [part, own] : parts->named_)
        for (const auto& [key, value] : own.effective().items())
          if (const auto [at, fresh] = values.emplace(key, value); !fresh && *at != value)
            unclear.insert(key);
    for (Parts* parts : all) parts->write_down(unclear);
  }

 private:
  struct Turn {
    const Part* part;
    std::unique_ptr<Settings> own;  // of a part given as an object
  };

  // What parts of this kind given by name read.
  Settings& named(const Part& part) { return named_.try_emplace(&part, settings_.unread()).first->second; }

  void write_down(const std::set<std::string>& unclear) {
    std::map<const Part*, nlohmann::json> objects;
    for (const auto& [part, own] : named_) {
      const nlohmann::json& effective = own.effective();
      settings_.know(own);
      if (configured_ && std::any_of(unclear.begin(), unclear.end(),
                                     [&](const std::string& key) { return effective.contains(key); })) {
        objects[part] = effective;
        objects[part]["type"] = part->name;
      } else {
        for (const auto& [key, value] : effective.items()) settings_.set_effective(key, value);
      }
    }
    nlohmann::json all = nlohmann::json::array();
    for (const Turn& turn : turns_) {
      if (turn.own) turn.own->finish();
      const auto object = objects.find(turn.part);
      all.push_back(turn.own                  ? turn.own->effective()
                    : object != objects.end() ? object->second
                                              : nlohmann::json(turn.part ? turn.part->name : "none"));
    }
    if (configured_) settings_.set_effective(key_, list_ ? all : all[0]);
  }

  Turn read(nlohmann::json one) {
    if (one.is_string()) return {find(one.get<std::string>()), nullptr};
    if (!one.is_object()) refuse();
    auto own = std::make_unique<Settings>(std::move(one), fmt::format("{}: {}", settings_.context(), key_));
    const Part* part = find(own->text("type", ""));
    return {part, std::move(own)};
  }

  const Part* find(const std::string& name) const {
    if (may_be_none_ && name == "none") return nullptr;
    for (const Part& part : known_)
      if (part.name == name) return &part;
    refuse();
  }

  [[noreturn]] void refuse() const {
    std::string names = may_be_none_ ? "none" : "";
    for (const Part& part : known_) names += (names.empty() ? "" : ", ") + part.name;
    settings_.refuse(key_, "one of " + names + ", an object {\"type\": one of these, ...} or a list of such");
  }

  Settings& settings_;
  const char* const key_;
  const std::vector<Part>& known_;
  const bool may_be_none_, configured_;  // configured: the architecture leaves the choice to the key
  bool list_ = false;
  std::vector<Turn> turns_;
  std::map<const Part*, Settings> named_;
  std::map<const Part*, std::shared_ptr<void>> shared_;
};

Frame read_frame(Settings& settings, const Spelling& spelling, const Habits& habits) {
  Frame frame;
  frame.vocab_size = settings.integer("vocab_size", 256, 2, 1 << 20);
  frame.d_model = settings.integer("d_model", 128, 1, 1 << 16);
  frame.n_layer = settings.integer("n_layer", 4, 1, kMostLayers);
  frame.tied_head = settings.flag("tie_embeddings", habits.tied_head);
  frame.final_norm = settings.choice("norm", habits.norm, {"rms", "layer"}) == "rms"
                         ? Frame::Norm::kRms
                         : Frame::Norm::kAffineLayer;
  if (settings.flag("embedding_norm", habits.embedding_norm)) frame.embedding_norm = frame.final_norm;
  frame.norm_eps = float(settings.number("norm_eps", 1e-5, 0.0, 1.0));
  frame.embedding_stddev = habits.embedding_stddev;
  if (habits.head_gain > 0) frame.head_stddev = habits.head_gain / std::sqrt(float(frame.d_model));
  frame.embedding_name = spelling.embedding;
  frame.embedding_norm_name = spelling.embedding_norm;
  frame.final_norm_name = spelling.final_norm;
  frame.head_name = spelling.head;
  return frame;
}

}  // namespace

Architecture stack(const char* name, const char* mixer, const char* feed, const Spelling& spelling,
                   const Habits& habits) {
  const auto frame = [spelling, habits](Settings& settings) {
    return read_frame(settings, spelling, habits);
  };
  const auto blocks = [mixer, feed, spelling](Settings& settings, const Frame& frame, ParameterStore& store,
                                              Random& random) {
    const auto dropout = float(settings.number("dropout", 0.0, 0.0, 0.95));
    Parts mixer_parts(settings, "mixer", mixer, mixers(), false);
    Parts feed_parts(settings, "feed", feed, feeds(), true);
    const bool parallel = feed_parts.any() && settings.flag("parallel", false);
    std::vector<std::unique_ptr<Block>> layers;
    for (int64_t i = 0; i < frame.n_layer; ++i) {
      const std::string prefix = fmt::format("{}{}.", spelling.layer, i);
      const auto place = [&](Parts& parts, const char* half) {
        return Place{i,
                     frame.n_layer,
                     frame.d_model,
                     parts.alike(i, frame.n_layer),
                     prefix + half,
                     frame.norm_eps,
                     parts.shared(i)};
      };
      const auto norm = [&](const char* which) {
        return Norm(frame.final_norm, store, prefix + which, frame.d_model, frame.norm_eps);
      };
      const Norm mixer_norm = norm(spelling.mixer_norm);
      auto mixing = mixer_parts.make(place(mixer_parts, spelling.mixer), store, random);
      std::optional<Norm> feed_norm;
      auto feeding = feed_parts.make(place(feed_parts, spelling.feed), store, random);
      if (feeding && !parallel) feed_norm = norm(spelling.feed_norm);
      layers.push_back(
          std::make_unique<Layer>(std::move(mixing), std::move(feeding), mixer_norm, feed_norm, dropout));
    }
    Parts::write_down(settings, {&mixer_parts, &feed_parts});
    return layers;
  };
  return {name, frame, blocks};
}

}  // namespace brood
