// Dragon Hatchling against its recurrence in double precision, and every way of computing it against every
// other.
#include "tests/reference/bdh.h"

#include <gtest/gtest.h>

#include <cmath>

#include "brood/base/threads.h"
#include "brood/model/model.h"
#include "brood/model/presets.h"

namespace brood {
namespace {

struct Config {
  int64_t vocab = 7, D = 6, heads = 2, neurons = 24, layers = 2;
  double decay = 1, threshold = 0, dropout = 0;
  const char* sparse = "auto";
  bool joins = false, detach = false;
  std::vector<int64_t> parts = {};
  nlohmann::json json() const {
    nlohmann::json config = {{"architecture", "bdh"},
                             {"vocab_size", vocab},
                             {"d_model", D},
                             {"n_head", heads},
                             {"n_neuron", neurons},
                             {"n_layer", layers},
                             {"decay", decay},
                             {"threshold", threshold},
                             {"dropout", dropout},
                             {"sparse", sparse},
                             {"residual", joins ? "neurons" : "stream"},
                             {"detach", detach}};
    if (!parts.empty()) config["parts"] = parts;
    return config;
  }
};

// Small models start with weights that let signals through, so that every path matters.
void scale_up(Model& model, float stddev) {
  Random random(5);
  for (Parameter& p : model.parameters().all()) random.fill_normal(p.value.f32(), p.size(), stddev);
}

std::vector<double> doubles(const Parameter& p) { return {p.value.f32(), p.value.f32() + p.size()}; }

reference::Bdh reference_of(Model& model, const Config& c) {
  ParameterStore& store = model.parameters();
  return {.V = c.vocab,
          .D = c.D,
          .H = c.heads,
          .N = c.neurons / c.heads,
          .L = c.layers,
          .decay = c.decay,
          .threshold = c.threshold,
          .embed = doubles(*store.find("embed.weight")),
          .encoder = doubles(*store.find("encoder")),
          .encoder_v = doubles(*store.find("encoder_v")),
          .decoder = doubles(*store.find("decoder")),
          .head = doubles(*store.find("lm_head")),
          .joins = c.joins,
          .parts = c.parts};
}

std::vector<int32_t> random_tokens(int64_t n, int64_t vocab, uint64_t seed = 3) {
  Random random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(int32_t(random.below(uint64_t(vocab))));
  return tokens;
}

// Logits of one stream read in chunks of the given lengths.
std::vector<float> run(Model& model, State& state, std::span<const int32_t> tokens,
                       const std::vector<int64_t>& chunks, bool recording = false,
                       Precision precision = Precision::kF32) {
  Tape tape;
  std::vector<float> all;
  size_t at = 0;
  for (int64_t T : chunks) {
    tape.start(recording, precision);
    const Var logits = model.forward(tape, state, tokens.subspan(at, size_t(T)), 1, T);
    all.insert(all.end(), logits.value(), logits.value() + logits.size());
    tape.finish();
    at += size_t(T);
  }
  return all;
}

std::vector<float> run(Model& model, std::span<const int32_t> tokens, const std::vector<int64_t>& chunks,
                       bool recording = false, Precision precision = Precision::kF32) {
  State state = model.make_state(1);
  return run(model, state, tokens, chunks, recording, precision);
}

template <class A, class B>
void expect_close(const A& a, const B& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  double scale = 0, worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_TRUE(std::isfinite(a[i]));
    scale = std::max(scale, std::abs(double(b[i])));
    worst = std::max(worst, std::abs(double(a[i]) - double(b[i])));
  }
  EXPECT_LE(worst, tolerance * scale);
}

// Sums of n floats, each rounded once: errors grow like sqrt(n)·eps through each of a few stages per layer.
constexpr double kClose = 1e-5;

TEST(Bdh, ParameterCounts) {
  const auto count = [](int64_t D, int64_t n, int64_t heads, int64_t layers) {
    return Model(Config{.vocab = 256, .D = D, .heads = heads, .neurons = n, .layers = layers}.json())
        .parameter_count();
  };
  EXPECT_EQ(count(64, 2048, 4, 4), 425984);
  EXPECT_EQ(count(512, 65536, 4, 6), 100925440);
  EXPECT_EQ(Model(nlohmann::json::parse(find_preset("bdh-25m")->json)).parameter_count(), 25296896);
}

TEST(Bdh, NamesAndShapesOfThePublicRepository) {
  Model model(Config{.vocab = 256, .D = 64, .heads = 4, .neurons = 2048, .layers = 4}.json());
  ParameterStore& store = model.parameters();
  for (const char* name : {"encoder", "encoder_v"}) {
    ASSERT_NE(store.find(name), nullptr);
    EXPECT_EQ(store.find(name)->file_shape, (std::vector<int64_t>{4, 64, 512}));
    EXPECT_TRUE(store.find(name)->swapped_in_file);
  }
  EXPECT_EQ(store.find("decoder")->value.shape(), Shape({2048, 64}));
  EXPECT_FALSE(store.find("decoder")->swapped_in_file);
  EXPECT_TRUE(store.find("lm_head")->swapped_in_file);
  EXPECT_EQ(store.find("embed.weight")->value.shape(), Shape({256, 64}));
}

TEST(Bdh, RefusesImpossibleShapes) {
  EXPECT_THROW(Model(Config{.heads = 4, .neurons = 12}.json()), Error);
  EXPECT_THROW(Model(Config{.decay = 1.5}.json()), Error);
  EXPECT_THROW(Model(Config{.sparse = "sometimes"}.json()), Error);
  EXPECT_THROW(Model(Config{.sparse = "always", .joins = true}.json()), Error);
  for (const std::vector<int64_t>& parts :
       std::vector<std::vector<int64_t>>{{6}, {6, 4}, {6, 8}, {5, 7}, {0, 12}, {14, -2}, {12, 2}})
    EXPECT_THROW(Model(Config{.neurons = 24, .parts = parts}.json()), Error);
  auto config = Config{}.json();
  config["parts"] = "6, 6";
  EXPECT_THROW(Model{config}, Error);
}

TEST(Bdh, LossAndActivityAtTheStart) {
  for (const char* sparse : {"always", "never"}) {
    Config c{.vocab = 256, .D = 64, .heads = 4, .neurons = 2048, .layers = 4, .sparse = sparse};
    Model model(c.json(), 1);
    State state = model.make_state(1);
    const auto tokens = random_tokens(129, 256);
    Tape tape;
    tape.start(false);
    Activity activity;
    const Var logits =
        model.forward(tape, state, std::span(tokens).first(128), 1, 128, {.activity = &activity});
    const Var loss = cross_entropy(tape, logits, std::span(tokens).subspan(1));
    double nats = 0;
    for (int64_t r = 0; r < 128; ++r) nats += loss.value()[r] / 128;
    EXPECT_NEAR(nats, 5.52, 0.05);
    EXPECT_EQ(activity.samples, 128 * 4);
    EXPECT_NEAR(activity.active / double(activity.samples), 0.50, 0.02);
    EXPECT_NEAR(activity.gated / double(activity.samples), 0.25, 0.02);
  }
}

TEST(Bdh, FirstLogitsDoNotDependOnTheThreeMatrices) {
  Config c{.vocab = 256, .D = 64, .heads = 4, .neurons = 512};
  Model model(c.json(), 1);
  const auto tokens = random_tokens(1, 256);
  const std::vector<float> before = run(model, tokens, {1});
  Random random(9);
  for (const char* name : {"encoder", "encoder_v", "decoder"}) {
    Parameter& p = *model.parameters().find(name);
    random.fill_normal(p.value.f32(), p.size(), 0.1f);
  }
  EXPECT_EQ(run(model, tokens, {1}), before);
}

struct Variant {
  int64_t D, heads, neurons, layers;
  double decay, threshold;
};
const Variant kVariants[] = {{6, 2, 24, 2, 1.0, 0.0}, {1, 1, 2, 1, 1.0, 0.0},     {9, 3, 18, 2, 0.9, 0.0},
                             {5, 1, 10, 3, 0.5, 0.1}, {17, 1, 140, 2, 0.98, 0.2}, {33, 4, 264, 1, 1.0, 0.3}};

Config config_of(const Variant& v, const char* sparse) {
  return {.D = v.D,
          .heads = v.heads,
          .neurons = v.neurons,
          .layers = v.layers,
          .decay = v.decay,
          .threshold = v.threshold,
          .sparse = sparse};
}

// Those, and what else they can be.
std::vector<Config> all_configs() {
  std::vector<Config> all;
  for (const Variant& v : kVariants) {
    for (const char* sparse : {"always", "never"}) all.push_back(config_of(v, sparse));
    all.push_back(config_of(v, "auto"));
    all.back().joins = true;
  }
  for (const char* sparse : {"always", "never"}) {  // three models side by side, whose tiles cross the seams
    all.push_back({.D = 6, .heads = 2, .neurons = 284, .decay = 0.97, .threshold = 0.1, .sparse = sparse});
    all.back().parts = {2, 70, 70};
  }
  return all;
}

// Every way of cutting 7 steps into chunks, lists and dense, recorded or not, gives what the recurrence
// gives.
TEST(Bdh, AnyChunkingEqualsTheRecurrence) {
  constexpr int64_t kSteps = 7;
  for (const Config& c : all_configs()) {
    Model model(c.json(), 1);
    scale_up(model, 0.3f);
    const reference::Bdh slow = reference_of(model, c);
    const auto tokens = random_tokens(kSteps, c.vocab);
    auto start = slow.start();
    const std::vector<double> expected = slow.logits(start, tokens);
    for (uint32_t cuts = 0; cuts < 1u << (kSteps - 1); ++cuts) {
      std::vector<int64_t> chunks{1};
      for (int64_t i = 0; i < kSteps - 1; ++i) {
        if (cuts >> i & 1)
          chunks.push_back(1);
        else
          ++chunks.back();
      }
      SCOPED_TRACE(fmt::format("{} cuts {:06b}", c.json().dump(), cuts));
      for (bool recording : {false, true})
        expect_close(run(model, tokens, chunks, recording), expected, kClose);
    }
  }
}

TEST(Bdh, LongStreamsKeepTheirPhaseAndFadeWithoutOverflow) {
  for (double decay : {1.0, 0.9, 0.5}) {
    for (const char* sparse : {"always", "never"}) {
      Config c{.D = 8, .neurons = 64, .decay = decay, .sparse = sparse};
      Model model(c.json(), 1);
      scale_up(model, 0.3f);
      const reference::Bdh slow = reference_of(model, c);
      const int64_t origin = 1'000'003;  // as if so many steps without awake neurons had gone before
      const auto tokens = random_tokens(600, c.vocab);
      auto from = slow.start();
      from.position = origin;
      const std::vector<double> expected = slow.logits(from, tokens);
      for (int64_t T : {1, 7, 100}) {
        State state = model.make_state(1);
        state.positions[0] = origin;
        std::vector<int64_t> chunks(size_t(600 / T), T);
        if (600 % T) chunks.push_back(600 % T);
        SCOPED_TRACE(fmt::format("decay {} {} T {}", decay, sparse, T));
        expect_close(run(model, state, tokens, chunks), expected, 4 * kClose);
      }
    }
  }
}

TEST(Bdh, ListsEqualDense) {
  for (double threshold : {0.0, 0.15, 0.3}) {
    Config c{.vocab = 256, .D = 64, .heads = 4, .neurons = 2048, .layers = 3, .threshold = threshold};
    const auto tokens = random_tokens(150, 256);
    std::vector<std::vector<float>> results;
    for (const char* sparse : {"always", "never", "auto"}) {
      c.sparse = sparse;
      Model model(c.json(), 1);
      results.push_back(run(model, tokens, {70, 80}));
    }
    expect_close(results[0], results[1], kClose);
    expect_close(results[2], results[1], kClose);
  }
}

TEST(Bdh, ALaterByteLeavesEarlierLogitsAlone) {
  for (const char* sparse : {"always", "never"}) {
    Config c{.vocab = 256, .D = 64, .heads = 4, .neurons = 512, .layers = 2, .sparse = sparse};
    Model model(c.json(), 1);
    auto tokens = random_tokens(40, 256);
    const std::vector<float> before = run(model, tokens, {40});
    for (size_t t : {39u, 20u, 1u}) {
      auto changed = tokens;
      changed[t] = (changed[t] + 100) % 256;
      const std::vector<float> after = run(model, changed, {40});
      EXPECT_TRUE(std::equal(after.begin(), after.begin() + int64_t(t) * 256, before.begin())) << sparse << t;
      EXPECT_FALSE(
          std::equal(after.begin() + int64_t(t) * 256, after.end(), before.begin() + int64_t(t) * 256));
    }
  }
}

TEST(Bdh, StreamsDoNotMix) {
  for (const char* sparse : {"always", "never"}) {
    const Config c{.D = 8, .heads = 2, .neurons = 140, .decay = 0.95, .sparse = sparse};
    Model model(c.json(), 1);
    scale_up(model, 0.3f);
    constexpr int64_t kStreams = 3, kT = 5;
    State state = model.make_state(kStreams);
    std::vector<std::vector<int32_t>> seen(kStreams);
    std::vector<std::vector<float>> got(kStreams);
    Tape tape;
    for (int64_t chunk = 0; chunk < 4; ++chunk) {
      if (chunk == 2) {  // one stream begins anew, so streams stand at different positions
        state.reset(1);
        seen[1].clear();
        got[1].clear();
      }
      const auto tokens = random_tokens(kStreams * kT, c.vocab, uint64_t(chunk) + 10);
      tape.start(chunk % 2 == 1);
      const Var logits = model.forward(tape, state, tokens, kStreams, kT);
      for (int64_t b = 0; b < kStreams; ++b) {
        seen[size_t(b)].insert(seen[size_t(b)].end(), tokens.begin() + b * kT, tokens.begin() + (b + 1) * kT);
        const float* from = logits.value() + b * kT * c.vocab;
        got[size_t(b)].insert(got[size_t(b)].end(), from, from + kT * c.vocab);
      }
      tape.finish();
    }
    for (size_t b = 0; b < kStreams; ++b)
      expect_close(got[b], run(model, seen[b], {int64_t(seen[b].size())}), kClose);
  }
}

TEST(Bdh, AStateNotKeptIsNotTouched) {
  for (const char* sparse : {"always", "never"}) {
    Model model(Config{.sparse = sparse}.json(), 1);
    State state = model.make_state(1);
    for (StateTensor& t : state.tensors)
      for (int64_t i = 0; i < t.value.size(); ++i)
        t.value.f32()[i] = 1e30f;  // garbage at the start of a stream
    const auto tokens = random_tokens(6, 7);
    Tape tape;
    tape.start(true);
    const Var logits = model.forward(tape, state, tokens, 1, 6, {.keep_state = false});
    const std::vector<float> first(logits.value(), logits.value() + logits.size());
    tape.finish();
    for (const StateTensor& t : state.tensors) {
      if (!t.in_place) continue;
      for (int64_t i = 0; i < t.value.size(); ++i) ASSERT_EQ(t.value.f32()[i], 1e30f);
    }
    EXPECT_EQ(run(model, state, tokens, {6}), first);
    EXPECT_EQ(state.positions[0], 6);
  }
}

// Small enough for central differences: what the equations say, joined neurons, and no gradient through time.
std::vector<Config> trained_configs() {
  std::vector<Config> all;
  for (const Variant& v : {kVariants[0], kVariants[2], kVariants[3], Variant{3, 2, 136, 2, 0.9, 0.2}}) {
    for (const char* sparse : {"always", "never", "auto"}) {
      for (bool detach : {false, true}) {
        all.push_back(config_of(v, sparse));
        all.back().joins = std::string(sparse) == "auto";
        // Larger sums: what LN leaves of three numbers of them has lost too many digits in f32.
        if (all.back().joins) all.back().D += 3;
        all.back().detach = detach;
      }
    }
  }
  return all;
}

// Gradients of every parameter, from a zero state and from one carried over (a constant), against central
// differences of the reference, in which a past without gradient stays as it was when weights move.
TEST(Bdh, GradientsAgainstFiniteDifferences) {
  for (const Config& c : trained_configs()) {
    for (int64_t before : {0, 4}) {
      for (int64_t T : {1, 3, 6}) {
        SCOPED_TRACE(fmt::format("{} before {} T {}", c.json().dump(), before, T));
        Model model(c.json(), 1);
        scale_up(model, 0.4f);
        reference::Bdh slow = reference_of(model, c);
        const auto past = random_tokens(before, c.vocab, 20), tokens = random_tokens(T, c.vocab, 21),
                   targets = random_tokens(T, c.vocab, 22);
        State state = model.make_state(1);
        if (before) run(model, state, past, {before});
        Tape tape;
        tape.start(true);
        const Var loss = cross_entropy(tape, model.forward(tape, state, tokens, 1, T), targets);
        tape.backward(loss);

        auto from = slow.start();
        slow.logits(from, past);
        reference::Bdh::Writes writes;
        if (c.detach) {
          slow.writes = &writes;
          slow.loss(from, tokens, targets);
          writes.replayed = true;
        }
        const auto loss_now = [&] {
          writes.next = 0;
          return slow.loss(from, tokens, targets);
        };
        const std::pair<const char*, std::vector<double>*> pairs[] = {{"embed.weight", &slow.embed},
                                                                      {"encoder", &slow.encoder},
                                                                      {"encoder_v", &slow.encoder_v},
                                                                      {"decoder", &slow.decoder},
                                                                      {"lm_head", &slow.head}};
        for (const auto& [name, values] : pairs) {
          SCOPED_TRACE(name);
          const Parameter& p = *model.parameters().find(name);
          std::vector<double> expected, got;
          const size_t stride = 1 + values->size() / 60;
          for (size_t i = 0; i < values->size(); i += stride) {
            constexpr double kStep = 1e-6;
            double& w = (*values)[i];
            const double kept = w;
            w = kept + kStep;
            const double above = loss_now();
            w = kept - kStep;
            const double below = loss_now();
            w = kept;
            expected.push_back((above - below) / (2 * kStep));
            got.push_back(p.gradient_open ? double(p.gradient.f32()[i]) : 0.0);
          }
          expect_close(got, expected, 2e-5);
        }
      }
    }
  }
}

TEST(Bdh, ListsAndDenseTrainAlike) {
  for (double dropout : {0.0, 0.3}) {
    std::vector<std::vector<float>> gradients[2];
    for (int lists = 0; lists < 2; ++lists) {
      const Config c{.vocab = 256,
                     .D = 64,
                     .heads = 4,
                     .neurons = 1024,
                     .layers = 2,
                     .threshold = 0.15,
                     .dropout = dropout,
                     .sparse = lists ? "always" : "never"};
      Model model(c.json(), 1);
      State state = model.make_state(2);
      const auto tokens = random_tokens(2 * 48, 256, 1), targets = random_tokens(2 * 48, 256, 2);
      Tape tape;
      tape.start(true);
      const Var logits =
          model.forward(tape, state, tokens, 2, 48, {.training = true, .keep_state = false, .seed = 7});
      tape.backward(cross_entropy(tape, logits, targets));
      for (const Parameter& p : model.parameters().all())
        gradients[lists].emplace_back(p.gradient.f32(), p.gradient.f32() + p.size());
    }
    for (size_t i = 0; i < gradients[0].size(); ++i) expect_close(gradients[1][i], gradients[0][i], 2e-5);
  }
}

// ---- bf16 -------------------------------------------------------------------------------------------------

// Rounding to bf16 moves a number by 2^-9 of itself at most. Every product rounds its weights and some their
// other factor: six roundings a layer, each within this share of what it enters, and LayerNorms keep the
// scale.
double half_tolerance(int64_t layers) { return 6 * double(layers) * 0x1p-9; }

Config half_config(const char* sparse, double threshold = 0.1) {
  return {.vocab = 256,
          .D = 64,
          .heads = 4,
          .neurons = 2048,
          .layers = 3,
          .threshold = threshold,
          .sparse = sparse};
}

TEST(Bdh, Bf16IsNearF32AndListsNearDense) {
  const auto tokens = random_tokens(150, 256);
  for (double threshold : {0.0, 0.15, 0.3}) {
    std::vector<std::vector<float>> halves;
    for (const char* sparse : {"always", "never"}) {
      const Config c = half_config(sparse, threshold);
      Model model(c.json(), 1);
      for (const std::vector<int64_t>& chunks :
           {std::vector<int64_t>{70, 80}, std::vector<int64_t>(150, 1)}) {
        SCOPED_TRACE(fmt::format("{} threshold {} {} chunks", sparse, threshold, chunks.size()));
        const std::vector<float> full = run(model, tokens, chunks);
        halves.push_back(run(model, tokens, chunks, false, Precision::kBf16));
        EXPECT_NE(halves.back(), full);
        expect_close(halves.back(), full, half_tolerance(c.layers));
        expect_close(halves.back(), halves.front(), half_tolerance(c.layers));
        expect_close(run(model, tokens, chunks, true, Precision::kBf16), halves.back(), kClose);
      }
    }
  }
}

// The numbers read are the bf16 copies: what they do not see changes no bit, what they see does.
TEST(Bdh, Bf16ReadsTheRoundedWeights) {
  const auto tokens = random_tokens(9, 256);
  for (const char* sparse : {"always", "never"}) {
    for (const char* name : {"encoder", "encoder_v", "decoder"}) {
      SCOPED_TRACE(fmt::format("{} {}", sparse, name));
      Model model(half_config(sparse).json(), 1);
      Parameter& w = *model.parameters().find(name);
      const auto scale = [&](float factor) {
        for (int64_t i = 0; i < w.size(); ++i) w.value.f32()[i] *= factor;
        ++w.version;
      };
      for (int64_t i = 0; i < w.size(); ++i) w.value.f32()[i] = to_float(to_bf16(w.value.f32()[i]));
      const auto logits = [&] { return run(model, tokens, {3, 1, 5}, false, Precision::kBf16); };
      const std::vector<float> before = logits(), full = run(model, tokens, {3, 1, 5});
      scale(1 + 0x1p-11f);  // an eighth of a bf16's last place
      EXPECT_EQ(logits(), before);
      EXPECT_NE(run(model, tokens, {3, 1, 5}), full);
      scale(1 + 0x1p-6f);
      EXPECT_NE(logits(), before);
    }
  }
}

TEST(Bdh, Bf16GradientsAreNearThoseOfF32) {
  const int64_t B = 2, T = 48;
  const auto tokens = random_tokens(B * T, 256, 1), targets = random_tokens(B * T, 256, 2);
  for (const char* sparse : {"always", "never"}) {
    for (double dropout : {0.0, 0.3}) {
      std::vector<std::vector<float>> gradients[2];
      Config c = half_config(sparse, 0.15);
      c.dropout = dropout;
      for (const Precision precision : {Precision::kF32, Precision::kBf16}) {
        Model model(c.json(), 1);
        State state = model.make_state(B);
        Tape tape;
        tape.start(true, precision);
        const Var logits =
            model.forward(tape, state, tokens, B, T, {.training = true, .keep_state = false, .seed = 7});
        tape.backward(cross_entropy(tape, logits, targets));
        for (const Parameter& p : model.parameters().all())
          gradients[precision == Precision::kBf16].emplace_back(p.gradient.f32(),
                                                                p.gradient.f32() + p.size());
      }
      for (size_t i = 0; i < gradients[0].size(); ++i) {
        SCOPED_TRACE(fmt::format("{} dropout {} parameter {}", sparse, dropout, i));
        EXPECT_NE(gradients[1][i], gradients[0][i]);
        // That share of the neurons stands so near the brink that it is awake in one of the two only, and its
        // gradients are off by all they are: in the mean square by the root of the share.
        double off = 0, all = 0;
        for (size_t k = 0; k < gradients[0][i].size(); ++k) {
          off += std::pow(double(gradients[1][i][k]) - double(gradients[0][i][k]), 2);
          all += std::pow(double(gradients[0][i][k]), 2);
        }
        EXPECT_LE(off / all, half_tolerance(c.layers));
      }
    }
  }
}

TEST(Bdh, ThreadsDoNotChangeABit) {
  const int before = ThreadPool::instance().size();
  for (const auto& [sparse, precision] :
       {std::pair{"always", Precision::kF32}, std::pair{"never", Precision::kF32},
        std::pair{"always", Precision::kBf16}, std::pair{"never", Precision::kBf16}}) {
    std::vector<std::vector<float>> results;
    for (int threads : {1, 2, 3}) {
      ThreadPool::instance().resize(threads);
      const Config c{.vocab = 256,
                     .D = 64,
                     .heads = 4,
                     .neurons = 2048,
                     .layers = 2,
                     .threshold = 0.1,
                     .sparse = sparse};
      Model model(c.json(), 1);
      State state = model.make_state(1);
      std::vector<float> all;
      Tape tape;
      for (int64_t T : {64, 1, 16, 2}) {
        const auto tokens = random_tokens(T, 256, uint64_t(T)),
                   targets = random_tokens(T, 256, uint64_t(T) + 1);
        tape.start(true, precision);
        const Var logits = model.forward(tape, state, tokens, 1, T);
        all.insert(all.end(), logits.value(), logits.value() + logits.size());
        tape.backward(cross_entropy(tape, logits, targets));
        for (Parameter& p : model.parameters().all()) {
          all.insert(all.end(), p.gradient.f32(), p.gradient.f32() + p.size());
          p.gradient_open = false;
        }
        const std::vector<float> frozen = run(model, state, tokens, {T}, false, precision);
        all.insert(all.end(), frozen.begin(), frozen.end());
      }
      results.push_back(std::move(all));
    }
    EXPECT_TRUE(results[0] == results[1]);
    EXPECT_TRUE(results[0] == results[2]);
  }
  ThreadPool::instance().resize(before);
}

}  // namespace
}  // namespace brood
