#include "brood/model/merge.h"

#include <algorithm>
#include <cmath>

#include "brood/model/directory.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"
#include "tests/fixture/tiny_models.h"
#include "tests/model/architectures.h"

namespace brood {
namespace {

using testing::logits_in_chunks;
using testing::random_tokens;

nlohmann::json config(int64_t neurons) {
  return {{"architecture", "bdh"}, {"vocab_size", 17}, {"d_model", 16},
          {"n_layer", 2},          {"n_head", 2},      {"n_neuron", neurons}};
}

Model large(const nlohmann::json& json, uint64_t seed) {
  Model model(json, seed);
  testing::enlarge(model, 8);
  return model;
}

std::unique_ptr<Model> side_by_side(const std::vector<const Model*>& models) {
  return merged(models, Merging::kSideBySide);
}

// The largest difference, as a share of the largest of b.
float distance(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0, off = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    largest = std::max(largest, std::abs(b[i]));
    off = std::max(off, std::abs(a[i] - b[i]));
  }
  return off / largest;
}

std::vector<float> logits(Model& model) {
  return logits_in_chunks(model, random_tokens(60, 17, 5), {1, 30, 29});
}

// Beside neurons that sleep a model is what it was, wherever its neurons come to lie: they still turn as they
// did.
TEST(Merge, SleepingNeighboursChangeNothing) {
  Model model = large(config(128), 1), sleeping = large(config(40), 2);
  for (const char* shared : {"embed.weight", "lm_head"}) {
    const Parameter& from = *model.parameters().find(shared);
    std::copy(from.value.f32(), from.value.f32() + from.size(),
              sleeping.parameters().find(shared)->value.f32());
  }
  Parameter& encoder = *sleeping.parameters().find("encoder");
  std::fill(encoder.value.f32(), encoder.value.f32() + encoder.size(), 0.0f);
  const std::vector<float> alone = logits(model);
  for (const auto& models :
       {std::vector<const Model*>{&model, &sleeping}, std::vector<const Model*>{&sleeping, &model},
        std::vector<const Model*>{&sleeping, &model, &sleeping}}) {
    const auto both = side_by_side(models);
    EXPECT_LE(distance(logits(*both), alone), 1e-5f) << both->config().dump();
  }
  // With the frequencies of a head of its new size it is another model.
  auto anew = side_by_side({&sleeping, &model});
  nlohmann::json without = anew->config();
  without.erase("parts");
  Model turned(without);
  for (Parameter& p : turned.parameters().all()) {
    const Parameter& from = *anew->parameters().find(p.name);
    std::copy(from.value.f32(), from.value.f32() + from.size(), p.value.f32());
  }
  EXPECT_GT(distance(logits(turned), alone), 0.01f);
}

// Twice the same sums: LN takes the factor out, but for its eps.
TEST(Merge, BesideItselfAModelIsItselfUpToTheEpsOfItsNorms) {
  Model model = large(config(128), 1);
  const std::vector<float> alone = logits(model);
  const auto twice = side_by_side({&model, &model});
  EXPECT_EQ(twice->config().at("parts"), nlohmann::json::array({64, 64}));
  EXPECT_LE(distance(logits(*twice), alone), 1e-2f);
  const auto more = side_by_side({twice.get(), &model});
  EXPECT_EQ(more->config().at("parts"), nlohmann::json::array({64, 64, 64}));
  EXPECT_EQ(more->config().at("n_neuron"), 384);
  EXPECT_LE(distance(logits(*more), alone), 2e-2f);
}

TEST(Merge, AMergedModelIsAModel) {
  Model a = large(config(64), 1), b = large(config(96), 2);
  const auto both = side_by_side({&a, &b});
  const std::vector<float> before = logits(*both);
  const ScratchDirectory scratch;
  save_model(scratch.path(), *both, nullptr, nullptr);
  LoadedModel loaded = load_model(scratch.path());
  expect_same_parameters(*loaded.model, *both);
  EXPECT_EQ(logits(*loaded.model), before);
  // And it learns: a step along its gradient costs less.
  const auto tokens = random_tokens(40, 17, 8), targets = random_tokens(40, 17, 9);
  State state = both->make_state(1);
  const auto cost = [&](bool learn) {
    Tape tape;
    tape.start(learn);
    const Var loss =
        cross_entropy(tape, both->forward(tape, state, tokens, 1, 40, {.keep_state = false}), targets);
    double sum = 0;
    for (int64_t r = 0; r < loss.rows(); ++r) sum += double(loss.value()[r]);
    if (!learn) return sum;
    tape.backward(loss);
    double squares = 0;
    for (Parameter& p : both->parameters().all())
      for (int64_t i = 0; i < p.size(); ++i)
        squares += double(p.gradient.f32()[i]) * double(p.gradient.f32()[i]);
    for (Parameter& p : both->parameters().all()) {
      for (int64_t i = 0; i < p.size(); ++i)
        p.value.f32()[i] -= float(0.02 * sum / squares) * p.gradient.f32()[i];
      ++p.version;
    }
    return sum;
  };
  const double first = cost(true);
  EXPECT_LT(cost(false), 0.995 * first);
}

TEST(Merge, AveragesAreMeans) {
  for (const auto& tiny : testing::tiny_models()) {
    const auto json = nlohmann::json::parse(tiny.json);
    const Model a(json, 1), b(json, 2);
    const double weights[] = {3, 1};
    const auto mean = merged(std::vector{&a, &b}, Merging::kAverage, weights);
    EXPECT_EQ(mean->config(), a.config());
    for (size_t i = 0; i < mean->parameters().all().size(); ++i) {
      const Parameter &p = a.parameters().all()[i], &q = b.parameters().all()[i],
                      &m = mean->parameters().all()[i];
      for (int64_t k = 0; k < m.size(); ++k)
        ASSERT_NEAR(m.value.f32()[k], 0.75 * p.value.f32()[k] + 0.25 * q.value.f32()[k],
                    1e-6 * (std::abs(m.value.f32()[k]) + 1e-3))
            << tiny.name << " " << m.name;
    }
  }
}

TEST(Merge, RefusesWhatDoesNotFit) {
  const Model a(config(64), 1), wide(config(96), 1);
  const auto said = [](const std::vector<const Model*>& models, Merging how,
                       std::vector<double> weights = {}) {
    return message_of([&] { merged(models, how, weights); });
  };
  auto deep = config(64);
  deep["n_layer"] = 3;
  const Model other(deep, 1), mamba(tiny_config("mamba"), 1);
  expect_contains(said({&a}, Merging::kAverage), "two or more");
  expect_contains(said({&a, &other}, Merging::kSideBySide), "n_layer is 2 in one and 3 in the other");
  expect_contains(said({&a, &wide}, Merging::kAverage), "n_neuron");
  expect_contains(said({&a, &mamba}, Merging::kAverage), "model 2");
  expect_contains(said({&mamba, &mamba}, Merging::kSideBySide), "--average");
  expect_contains(said({&a, &a}, Merging::kSideBySide, {1}), "1 weights for 2 models");
  expect_contains(said({&a, &a}, Merging::kAverage, {1, -1}), "-1");
}

}  // namespace
}  // namespace brood
