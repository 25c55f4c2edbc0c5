// Dragon Hatchling against its recurrence in double precision, and every way of computing it against every
// other.
#include "brood/base/threads.h"
#include "brood/model/presets.h"
#include "tests/blocks/bdh_models.h"

namespace brood {
namespace {

using namespace bdh_models;

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
