// Feeds of experts and of selected neurons in a model: what a configuration says is what is built, counted and
// refused.
#include <gtest/gtest.h>

#include "brood/learn/evaluate.h"
#include "brood/model/cost.h"
#include "tests/fixture/messages.h"

namespace brood {
namespace {

using nlohmann::json;

json transformer(json more) {
  json config = {{"architecture", "transformer"}, {"d_model", 48}, {"n_head", 2}, {"n_layer", 2}};
  config.update(more);
  return config;
}

int64_t with(const Model& model, const std::string& part) {
  int64_t count = 0;
  for (const Parameter& p : model.parameters().all()) count += p.name.find(part) != std::string::npos;
  return count;
}

TEST(Switch, BuildsWhatTheConfigurationSays) {
  const Model model(transformer({{"feed", "switch"}, {"n_expert", 5}, {"top_k", 2}, {"n_shared_expert", 1}}));
  EXPECT_EQ(with(model, "layers.1.mlp.experts."), 5 * 3);
  EXPECT_EQ(with(model, "layers.1.mlp.shared_experts."), 3);
  EXPECT_EQ(with(model, "mlp.gate.e_score_correction_bias"), 2);
  const Model relu(transformer({{"feed", "switch"}, {"expert", "relu2"}, {"balance", "loss"}}));
  EXPECT_EQ(with(relu, "layers.0.mlp.experts."), 8 * 2);
  EXPECT_EQ(with(relu, "e_score_correction_bias"), 0);
  EXPECT_EQ(relu.config()["d_expert"], 192);
  EXPECT_EQ(relu.config()["balance_loss"], 1e-2);
  EXPECT_FALSE(relu.config().contains("balance_rate"));
}

TEST(Switch, MistakesAreNamed) {
  const auto message = [](json more) { return message_of([&] { Model model(transformer(more)); }); };
  expect_contains(message({{"feed", "switch"}, {"n_expert", 2}, {"top_k", 3}}), "top_k 3");
  expect_contains(message({{"feed", "switch"}, {"n_layer", 1000}, {"n_expert", 66}}), "n_expert 66 in 1000");
  expect_contains(message({{"feed", "switch"}, {"router", "tanh"}}), "router");
  expect_contains(message({{"feed", "switch"}, {"balance", "loss"}, {"balance_rate", 1e-3}}), "balance_rate");
  expect_contains(message({{"feed", "switch"}, {"renormalise", true}}), "renormalise");
  expect_contains(message({{"feed", "selected"}, {"d_ff", 31}}), "d_ff 31");
  expect_contains(message({{"feed", "selected"}, {"d_ff", 32}, {"top_k", 33}}), "top_k");
}

// Every second layer has them: only those count, against the limit too.
TEST(Switch, ExpertsAreCountedWhereTheyAre) {
  const json feeds = {"none", "switch"};
  json config = {{"architecture", "stack"}, {"mixer", "mamba"}, {"d_model", 2}, {"n_layer", 34},
                 {"n_expert", 3856},        {"d_expert", 1},    {"feed", feeds}};
  expect_contains(message_of([&] { Model model(config); }), "n_expert 3856 in 17 layers");
  config["n_expert"] = 600;
  const Model model(config);
  EXPECT_EQ(with(model, "feed.experts."), 17 * 600 * 3);
}

// Equal work: a byte costs a model of experts what it costs the dense one, and the router.
TEST(Switch, AByteCostsTheChosenExperts) {
  Model dense(transformer({{"feed", "swiglu"}}));
  for (int64_t n : {1, 8, 32}) {
    Model sparse(transformer({{"feed", "switch"}, {"n_expert", n}}));
    const double routers = 2 * double(n) * 48 + 2 * double(n);
    EXPECT_EQ(step_cost(sparse, Precision::kF32).weights,
              step_cost(dense, Precision::kF32).weights + routers);
  }
}

TEST(Switch, LoadsOfExpertsAreCounted) {
  Model model(transformer({{"feed", "switch"}, {"n_expert", 4}, {"top_k", 2}}));
  std::vector<uint8_t> bytes(301);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = uint8_t(i * 7);
  Activity activity;
  score_windows(model, bytes, 2, 50, Precision::kF32, {}, &activity);
  ASSERT_EQ(activity.expert_rows.size(), 2u);
  for (const auto& layer : activity.expert_rows) {
    EXPECT_EQ(layer.size(), 4u);
    int64_t sum = 0;
    for (int64_t rows : layer) sum += rows;
    EXPECT_EQ(sum, 2 * 300);
  }
  activity.expert_rows = {{}, {6, 2, 0, 0}, {1, 1, 1, 1}};
  const ExpertLoads loads = expert_loads(activity);
  EXPECT_EQ(loads.experts, 8);
  EXPECT_EQ(loads.dead, 2);
  EXPECT_EQ(loads.violation, 2.0);
}

TEST(Selected, TheShareAwakeIsReportedAndCosted) {
  Model model(transformer({{"feed", "selected"}, {"d_ff", 64}, {"top_k", 16}}));
  std::vector<uint8_t> bytes(101, 'a');
  State state = model.make_state(1);
  Activity activity;
  score_stream(model, state, bytes, 20, {}, &activity);
  EXPECT_EQ(activity.samples, 2 * 100);
  State one_by_one = model.make_state(1), in_chunks = model.make_state(1);
  EXPECT_NEAR(score_stream(model, one_by_one, bytes, 1).nats, score_stream(model, in_chunks, bytes, 50).nats,
              1e-2);
  EXPECT_NEAR(awake(activity).active, 0.25, 1e-6);
  const double dense = step_cost(model, Precision::kF32).weights,
               sparse = step_cost(model, Precision::kF32, 0, awake(activity)).weights;
  EXPECT_NEAR(dense - sparse, 0.75 * 2 * 2 * 64 * 48, 1);
}

}  // namespace
}  // namespace brood
