// Stacks: any mixer with any feed, mixed by a list; what a configuration says is what is built and kept.
#include "brood/blocks/stack.h"

#include <gtest/gtest.h>

#include "brood/model/model.h"
#include "tests/fixture/messages.h"

namespace brood {
namespace {

using nlohmann::json;

json parse(const std::string& text) { return json::parse(text); }

bool has(const Model& model, const std::string& name) {
  for (const Parameter& p : model.parameters().all())
    if (p.name == name) return true;
  return false;
}

// A model of what was written down has the same configuration and parameters of the same names and shapes.
void expect_same_again(const Model& model, const std::string& what = "") {
  SCOPED_TRACE(what);
  const Model again(model.config());
  EXPECT_EQ(again.config(), model.config());
  const auto &before = model.parameters().all(), &after = again.parameters().all();
  ASSERT_EQ(after.size(), before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(after[i].name, before[i].name);
    EXPECT_EQ(after[i].value.shape(), before[i].value.shape()) << before[i].name;
  }
}

TEST(Stack, AnyMixerGoesWithAnyFeed) {
  for (const Part& mixer : mixers()) {
    std::vector<std::string> names = {"none"};
    for (const Part& feed : feeds()) names.push_back(feed.name);
    for (const std::string& feed : names) {
      json config = {{"architecture", "stack"}, {"d_model", 32}, {"n_layer", 2},
                     {"mixer", mixer.name},     {"feed", feed},  {"vocab_size", 20}};
      const Model model(config);
      EXPECT_EQ(has(model, "layers.1.feed_norm.weight"), feed != "none") << mixer.name;
      EXPECT_TRUE(has(model, "layers.1.mixer_norm.weight")) << mixer.name;
    }
  }
}

TEST(Stack, AListIsRepeatedOverTheLayers) {
  const Model model(
      parse(R"({"architecture": "stack", "d_model": 16, "n_layer": 5, "feed": ["none", "swiglu"],
      "mixer": ["mamba", "mamba", {"type": "attention", "n_head": 2, "window": 32}]})"));
  for (int layer : {0, 1, 3, 4}) EXPECT_TRUE(has(model, fmt::format("layers.{}.mixer.A_log", layer)));
  EXPECT_TRUE(has(model, "layers.2.mixer.q_proj.weight"));
  for (int layer : {0, 2, 4}) EXPECT_FALSE(has(model, fmt::format("layers.{}.feed.up_proj.weight", layer)));
  for (int layer : {1, 3}) EXPECT_TRUE(has(model, fmt::format("layers.{}.feed.up_proj.weight", layer)));
}

TEST(Stack, APartsOwnKeysStayItsOwn) {
  const Model model(parse(R"({"architecture": "stack", "d_model": 16, "n_layer": 2, "d_state": 4,
      "mixer": ["mamba", {"type": "mamba", "d_state": 7}]})"));
  EXPECT_EQ(model.parameters().all().front().name, "embedding.weight");
  const auto states = [&](int layer) {
    for (const Parameter& p : model.parameters().all())
      if (p.name == fmt::format("layers.{}.mixer.A_log", layer)) return p.value.shape()[1];
    return int64_t(-1);
  };
  EXPECT_EQ(states(0), 4);
  EXPECT_EQ(states(1), 7);
}

TEST(Stack, TheEffectiveConfigurationBuildsTheSame) {
  const Model model(parse(R"({"architecture": "stack", "d_model": 16, "n_layer": 2,
      "mixer": [{"type": "attention", "n_head": 2}, "mamba"], "feed": {"type": "swiglu", "d_ff": 24}})"));
  EXPECT_EQ(model.config()["mixer"][0]["window"], 2048);
  EXPECT_EQ(model.config()["mixer"][1], "mamba");
  EXPECT_EQ(model.config()["feed"]["d_ff"], 24);
  expect_same_again(model);
}

// Parts whose defaults for one key differ, each beside each.
TEST(Stack, TheEffectiveConfigurationOfEveryPairBuildsTheSame) {
  const auto config = [](const json& mixer, const json& feed) {
    return json{{"architecture", "stack"}, {"d_model", 32},  {"n_layer", 2},
                {"vocab_size", 20},        {"mixer", mixer}, {"feed", feed}};
  };
  for (const Part& a : mixers()) {
    for (const Part& b : mixers())
      expect_same_again(Model(config({a.name, b.name}, "none")), a.name + ", " + b.name);
    for (const Part& b : feeds()) expect_same_again(Model(config(a.name, b.name)), a.name + ", " + b.name);
  }
  for (const Part& a : feeds())
    for (const Part& b : feeds())
      expect_same_again(Model(config("mamba", {a.name, b.name})), a.name + ", " + b.name);
}

TEST(Stack, DefaultsThatDifferAreWrittenDownPartByPart) {
  const Model model(parse(R"({"architecture": "stack", "d_model": 32, "n_layer": 2, "mixer": "mamba",
      "feed": ["selected", "switch"], "n_expert": 3})"));
  const json& feeds = model.config()["feed"];
  EXPECT_EQ(feeds[0]["type"], "selected");
  EXPECT_EQ(feeds[0]["top_k"], 0);
  EXPECT_EQ(feeds[1]["top_k"], 1);
  EXPECT_EQ(feeds[1]["n_expert"], 3);
  EXPECT_FALSE(model.config().contains("top_k"));
  EXPECT_FALSE(model.config().contains("n_expert"));
  EXPECT_EQ(model.config()["mixer"], "mamba");
  // What was given is the same for both.
  const Model given(parse(R"({"architecture": "stack", "d_model": 32, "n_layer": 2, "mixer": "mamba",
      "feed": ["selected", "switch"], "top_k": 2})"));
  EXPECT_EQ(given.config()["feed"], parse(R"(["selected", "switch"])"));
  EXPECT_EQ(given.config()["top_k"], 2);
  expect_same_again(given);
  // A mixer that no key names stays as it is.
  const Model fixed(parse(R"({"architecture": "transformer", "d_model": 16, "n_layer": 2, "n_head": 2,
      "feed": ["switch", "selected"]})"));
  EXPECT_EQ(fixed.config()["n_head"], 2);
  expect_same_again(fixed);
}

TEST(Stack, NormsOfEitherKind) {
  const Model plain(parse(R"({"architecture": "transformer", "d_model": 16, "n_layer": 1})"));
  EXPECT_FALSE(has(plain, "model.layers.0.input_layernorm.bias"));
  EXPECT_FALSE(has(plain, "embedding_norm.weight"));
  Model layer(parse(R"({"architecture": "transformer", "d_model": 16, "n_layer": 1, "norm": "layer",
      "embedding_norm": true})"));
  for (std::string name : {"model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm",
                           "model.norm", "embedding_norm"})
    for (std::string part : {".weight", ".bias"}) EXPECT_TRUE(has(layer, name + part)) << name + part;
  EXPECT_FALSE(layer.parameters().find("model.norm.bias")->decays);
}

TEST(Stack, ParallelLayersShareANorm) {
  const Model model(
      parse(R"({"architecture": "transformer", "d_model": 16, "n_layer": 1, "parallel": true})"));
  EXPECT_FALSE(has(model, "model.layers.0.post_attention_layernorm.weight"));
  EXPECT_TRUE(has(model, "model.layers.0.mlp.up_proj.weight"));
}

TEST(Stack, MistakesAreNamed) {
  const auto refused = [](const std::string& config, const std::string& named) {
    try {
      const Model model(parse(config));
      ADD_FAILURE() << config;
    } catch (const Error& error) {
      expect_contains(error.what(), named);
    }
  };
  refused(R"({"architecture": "stack"})", "\"mixer\" is missing");
  refused(R"({"architecture": "stack", "mixer": "mambo"})",
          "mixer is \"mambo\", but must be one of attention,");
  refused(R"({"architecture": "stack", "mixer": "none"})", "mixer is \"none\"");
  refused(R"({"architecture": "stack", "mixer": []})", "mixer is []");
  refused(R"({"architecture": "stack", "mixer": 3})", "mixer is 3");
  refused(R"({"architecture": "stack", "mixer": [["mamba"]]})", "mixer is");
  refused(R"({"architecture": "stack", "mixer": {"d_state": 4}})", "mixer is");
  refused(R"({"architecture": "stack", "mixer": {"type": "mamba", "d_stat": 4}})",
          "did you mean \"d_state\"");
  refused(R"({"architecture": "stack", "mixer": "mamba", "feed": "mamba"})", "feed is \"mamba\"");
  refused(R"({"architecture": "stack", "mixer": "mamba", "parallel": true})", "unknown key \"parallel\"");
  refused(R"({"architecture": "mamba", "norm": "batch"})", "norm is \"batch\"");
  refused(R"({"architecture": "rwkv7", "d_model": 96, "head_dim": 64})", "multiple of head_dim 64");
  refused(R"({"architecture": "rwkv7", "d_model": 97})", "heads of 1 channels");
  refused(R"({"architecture": "s4d", "d_state": 258, "init": "legs"})", "d_state 258 is too many");
  refused(R"({"architecture": "mamba", "mixer": "attention"})", "unknown key \"mixer\"");
}

}  // namespace
}  // namespace brood
