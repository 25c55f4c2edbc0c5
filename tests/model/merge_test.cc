#include "brood/model/merge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "brood/learn/optimiser.h"
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

// Two layers with experts, told apart by their feeds' own keys, and one without.
nlohmann::json config_of_experts(int64_t n, int64_t m, const char* router = "sigmoid", int64_t top_k = 1) {
  return {
      {"architecture", "stack"},
      {"vocab_size", 17},
      {"d_model", 12},
      {"n_layer", 3},
      {"mixer", {{"type", "retention"}, {"n_head", 2}}},
      {"n_expert", n},
      {"n_shared_expert", 1},
      {"d_expert", 16},
      {"router", router},
      {"top_k", top_k},
      {"d_ff", 20},
      {"feed",
       {"switch", "swiglu", {{"type", "switch"}, {"n_expert", m}, {"expert", "relu2"}, {"d_expert", 24}}}}};
}

constexpr const char* kFeedsWithExperts[] = {"layers.0.feed.", "layers.2.feed."};

// The biases are such that chance and training could have left.
Model experts(int64_t n, int64_t m, uint64_t seed, int64_t top_k = 1) {
  Model model = large(config_of_experts(n, m, "sigmoid", top_k), seed);
  Random random(seed + 100);
  for (const std::string feed : kFeedsWithExperts) {
    Parameter& bias = *model.parameters().find(feed + "gate.e_score_correction_bias");
    random.fill_uniform(bias.value.f32(), bias.size(), -0.1f, 0.1f);
  }
  return model;
}

TEST(Merge, BesideItselfAModelOfExpertsIsItself) {
  Model model = experts(3, 2, 1);
  const auto twice = side_by_side({&model, &model});
  EXPECT_EQ(twice->config().at("n_expert"), 6);
  EXPECT_EQ(twice->config().at("feed").at(2).at("n_expert"), 4);
  EXPECT_LE(distance(logits(*twice), logits(model)), 1e-5f);
}

// Beside experts that are never chosen a model is what it was, whatever numbers its own come to have.
TEST(Merge, ExpertsThatAreNeverChosenChangeNothing) {
  for (const int64_t top_k : {1, 2}) {
    Model model = experts(3, 2, 1, top_k), idle = experts(2, 4, 2, top_k);
    for (Parameter& p : idle.parameters().all()) {
      if (p.name.find(".experts.") != std::string::npos || p.name.ends_with("gate.weight")) continue;
      if (p.name.ends_with("bias")) {
        std::fill(p.value.f32(), p.value.f32() + p.size(), -2.0f);  // a score is from 0 to 1
      } else {
        std::copy_n(model.parameters().find(p.name)->value.f32(), p.size(), p.value.f32());
      }
    }
    const std::vector<float> alone = logits(model);
    for (const auto& models :
         {std::vector<const Model*>{&model, &idle}, std::vector<const Model*>{&idle, &model},
          std::vector<const Model*>{&idle, &model, &idle}})
      EXPECT_LE(distance(logits(*side_by_side(models)), alone), 1e-5f) << "top_k " << top_k;
    EXPECT_GT(distance(logits(idle), alone), 0.01f);
  }
}

TEST(Merge, ExpertsKeepTheirNumbersToTheBitAndTheRestIsMeans) {
  Model a = experts(3, 2, 1), b = experts(4, 1, 2);
  const double weights[] = {3, 1};
  const auto both = merged(std::vector<const Model*>{&a, &b}, Merging::kSideBySide, weights);
  size_t seen = 0;
  // A parameter of the new model, or some of its rows, beside the one that it is of.
  const auto expect_same = [&](Model& model, const std::string& from, const std::string& to, int64_t row) {
    const Parameter &p = *model.parameters().find(from), &q = *both->parameters().find(to);
    const int64_t at = p.value.shape().rank() == 1 ? row : row * p.value.shape()[1];
    ASSERT_LE(at + p.size(), q.size());
    EXPECT_EQ(std::memcmp(p.value.f32(), q.value.f32() + at, size_t(p.size()) * sizeof(float)), 0) << to;
    seen += size_t(p.size());
  };
  for (const std::string feed : kFeedsWithExperts) {
    const bool gated = feed == kFeedsWithExperts[0];
    int64_t number = 0;
    for (const auto& [model, n] : {std::pair(&a, gated ? 3 : 2), std::pair(&b, gated ? 4 : 1)}) {
      for (const char* rows : {"gate.weight", "gate.e_score_correction_bias"})
        expect_same(*model, feed + rows, feed + rows, number);
      for (int e = 0; e < n; ++e, ++number)
        for (const char* matrix : {"gate_proj", "up_proj", "down_proj"})
          if (gated || std::string(matrix) != "gate_proj")
            expect_same(*model, fmt::format("{}experts.{}.{}.weight", feed, e, matrix),
                        fmt::format("{}experts.{}.{}.weight", feed, number, matrix), 0);
    }
  }
  for (const Parameter& m : both->parameters().all()) {
    if (m.name.find(".experts.") != std::string::npos || m.name.find("feed.gate.") != std::string::npos)
      continue;
    const Parameter &p = *a.parameters().find(m.name), &q = *b.parameters().find(m.name);
    for (int64_t k = 0; k < m.size(); ++k)
      ASSERT_NEAR(m.value.f32()[k], 0.75 * p.value.f32()[k] + 0.25 * q.value.f32()[k],
                  1e-6 * (std::abs(m.value.f32()[k]) + 1e-3))
          << m.name;
    seen += size_t(m.size());
  }
  EXPECT_EQ(int64_t(seen), both->parameter_count()) << "nothing is left over";
}

TEST(Merge, AMergedModelOfExpertsIsAModel) {
  Model a = experts(3, 2, 1), b = experts(4, 1, 2);
  const auto both = side_by_side({&a, &b});
  const auto tokens = random_tokens(40, 17, 8), targets = random_tokens(40, 17, 9);
  State state = both->make_state(1);
  Optimiser optimiser(both->parameters(), {.learning_rate = 3e-3});
  double first = 0, last = 0;
  for (int step = 0; step < 20; ++step) {
    Tape tape;
    tape.start(true);
    const Var loss =
        cross_entropy(tape, both->forward(tape, state, tokens, 1, 40, {.keep_state = false}), targets);
    last = 0;
    for (int64_t r = 0; r < loss.rows(); ++r) last += double(loss.value()[r]);
    if (step == 0) first = last;
    tape.backward(loss);
    optimiser.step(3e-3);
  }
  EXPECT_LT(last, 0.9 * first);
  const ScratchDirectory scratch;
  save_model(scratch.path(), *both, nullptr, nullptr);
  LoadedModel loaded = load_model(scratch.path());
  EXPECT_EQ(loaded.model->config(), both->config());
  EXPECT_EQ(logits(*loaded.model), logits(*both));
  EXPECT_EQ(side_by_side({loaded.model.get(), &a})->config().at("n_expert"), 10) << "and is merged again";
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
  const Model few(config_of_experts(3, 2), 1), more(config_of_experts(3, 4), 1),
      two(config_of_experts(3, 2, "sigmoid", 2), 1), soft(config_of_experts(3, 2, "softmax"), 1);
  auto broad = config_of_experts(3, 2);
  broad["feed"][2]["d_expert"] = 32;
  expect_contains(said({&few, &more}, Merging::kAverage), "feed is");
  expect_contains(said({&few, &two}, Merging::kSideBySide), "top_k is 1 in one and 2 in the other");
  expect_contains(said({&few, std::make_unique<Model>(broad).get()}, Merging::kSideBySide), "feed is");
  expect_contains(said({&few, &soft}, Merging::kSideBySide), "router is");
  expect_contains(said({&soft, &soft}, Merging::kSideBySide), "train the models with router \"sigmoid\"");
  EXPECT_EQ(merged(std::vector{&soft, &soft}, Merging::kAverage)->config(), soft.config());
  expect_contains(said({&a, &a}, Merging::kSideBySide, {1}), "1 weights for 2 models");
  expect_contains(said({&a, &a}, Merging::kAverage, {1, -1}), "-1");
}

}  // namespace
}  // namespace brood
