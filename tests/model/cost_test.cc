#include "brood/model/cost.h"

#include <gtest/gtest.h>

#include "brood/model/presets.h"

namespace brood {
namespace {

Model preset(const char* name) { return Model(nlohmann::json::parse(find_preset(name)->json), 0); }

// bdh-s by hand: D 64, n 2048, 4 layers that share their three matrices, head apart.
TEST(StepCost, CountsEachUseOfASharedWeight) {
  const double D = 64, n = 2048, L = 4, V = 256;
  Model model = preset("bdh-s");
  const StepCost dense = step_cost(model, Precision::kF32);
  EXPECT_EQ(dense.weights, D + L * 3 * n * D + V * D);
  EXPECT_EQ(dense.weight_bytes, 4 * dense.weights);
  EXPECT_NEAR(dense.state_bytes, L * 2 * 4 * n * D, 1e-4 * dense.state_bytes);
  const StepCost sparse = step_cost(model, Precision::kF32, 0, {0.1, 0.02});
  EXPECT_DOUBLE_EQ(sparse.weights, D + L * (1 + 0.1 + 0.02) * n * D + V * D);
  // A product's backward is two products, of the rows that have a gradient; so is the synapses'.
  EXPECT_NEAR(dense.backward_flops, 2 * (dense.flops), 1e-9 * dense.flops);
  const double synapses = sparse.flops - 2 * (sparse.weights - D);
  EXPECT_NEAR(sparse.backward_flops, 2 * (2 * (L * (0.1 + 0.02 + 0.02) * n * D + V * D) + synapses), 1);
  EXPECT_NEAR(sparse.state_bytes, 0.19 * dense.state_bytes, 1e-4 * dense.state_bytes) << "rows move in pairs";
}

TEST(StepCost, ATiedHeadIsReadOnceAndHalvesInBf16) {
  Model model = preset("mamba-s");
  const StepCost f32 = step_cost(model, Precision::kF32), bf16 = step_cost(model, Precision::kBf16);
  EXPECT_NEAR(f32.weights, double(model.parameter_count()), 1e-3 * f32.weights);
  EXPECT_GT(bf16.weight_bytes, 0.5 * f32.weight_bytes);
  EXPECT_LT(bf16.weight_bytes, 0.6 * f32.weight_bytes);
}

// Rows of neurons are bf16, what is looked up and the synapses stay f32.
TEST(StepCost, NeuronsHalveInBf16TheirSynapsesDoNot) {
  Model model = preset("bdh-s");
  const Awake awake{0.1, 0.02};
  const StepCost f32 = step_cost(model, Precision::kF32, 0, awake),
                 bf16 = step_cost(model, Precision::kBf16, 0, awake);
  const double D = 64;
  EXPECT_DOUBLE_EQ(bf16.weight_bytes, 2 * (f32.weights - D) + 4 * D);
  EXPECT_EQ(bf16.state_bytes, f32.state_bytes);
  EXPECT_EQ(bf16.flops, f32.flops);
  EXPECT_EQ(step_cost(model, Precision::kF32, 0, awake).weight_bytes, f32.weight_bytes)
      << "whatever copies there are";
}

// Taps of a convolution are a matrix, too, and read as f32.
TEST(StepCost, OnlyProductsReadBf16) {
  Model model = preset("mamba-s");
  double products = 0, others = 0;
  for (const Parameter& w : model.parameters().all()) {
    const bool product = w.name.find("_proj.weight") != std::string::npos ||
                         w.name.find("embedding.weight") != std::string::npos;
    (product ? products : others) += double(w.size());
  }
  const StepCost cost = step_cost(model, Precision::kBf16);
  EXPECT_DOUBLE_EQ(cost.weight_bytes, 2 * products + 4 * (others + double(model.frame().d_model)));
}

TEST(StepCost, ACacheOfKeysGrowsToItsWindow) {
  Model model(
      {{"architecture", "transformer"}, {"d_model", 32}, {"n_head", 2}, {"n_layer", 3}, {"window", 64}}, 0);
  const auto state_bytes = [&](int64_t position) {
    return step_cost(model, Precision::kF32, position).state_bytes;
  };
  EXPECT_NEAR(state_bytes(9) - state_bytes(0), 9 * 3 * 2 * 16 * 4, 1e-6);
  EXPECT_EQ(state_bytes(1000), state_bytes(63));
}

TEST(StepCost, LeavesTheModelAsItWas) {
  Model model = preset("bdh-s");
  step_cost(model, Precision::kF32);
  for (const Parameter& w : model.parameters().all()) EXPECT_EQ(w.open_uses, 0) << w.name;
}

}  // namespace
}  // namespace brood
