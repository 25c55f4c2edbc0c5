// What is RWKV's own: where its numbers begin, how large its state is, and the values of the first layer, which all
// others of the same forward pass read.
#include <gtest/gtest.h>

#include <cmath>

#include "brood/model/model.h"
#include "tests/model/architectures.h"

namespace brood {
namespace {

using nlohmann::json;

const float* numbers(Model& model, const std::string& name) {
  const Parameter* p = model.parameters().find(name);
  BROOD_ASSERT(p != nullptr);
  return p->value.f32();
}

TEST(Rwkv7, BeginsAsItsAuthorsSay) {
  Model model(json::parse(R"({"architecture":"rwkv7","d_model":128,"n_layer":3})"));
  // −6 + 6·along^(1 + depth^0.3) + 0.5 + 2.5·zigzag: at the ends of a head the zigzag is −1 and 1.
  const float* w0 = numbers(model, "model.layers.0.attn.w_lora.lora.2.bias");
  EXPECT_FLOAT_EQ(w0[0], -8);
  EXPECT_FLOAT_EQ(w0[127], 3);
  EXPECT_FLOAT_EQ(w0[63], float(-6 + 6 * (63.0 / 127) + 3));
  EXPECT_FLOAT_EQ(numbers(model, "model.layers.2.attn.w_lora.lora.2.bias")[64],
                  float(-6 + 6 * std::pow(64.0 / 127, 2) - 2));
  EXPECT_FLOAT_EQ(numbers(model, "model.layers.0.attn.x_k")[64], float(1 - std::pow(0.5, 0.7)));
  EXPECT_FLOAT_EQ(numbers(model, "model.layers.2.ffn.x_k")[64],
                  float(1 - std::pow(0.5, std::pow(1.0 / 3, 4))));
  EXPECT_FLOAT_EQ(numbers(model, "model.layers.1.attn.v_lora.lora.2.bias")[0], 0.93f);
  EXPECT_FLOAT_EQ(numbers(model, "model.layers.1.attn.g_norm.weight")[5], float(std::pow(2.0 / 3, 0.7)));
  EXPECT_EQ(numbers(model, "model.layers.0.attn.o_proj.weight")[7], 0);
  EXPECT_EQ(model.parameters().find("model.layers.0.attn.g_lora.lora.0.weight")->value.shape(),
            Shape({64, 128}));
  EXPECT_EQ(model.state_bytes_per_stream(), 3 * (2 + 64) * 128 * 4);
}

TEST(Rwkv4, BeginsAsItsAuthorsSay) {
  Model model(json::parse(R"({"architecture":"rwkv4","d_model":128,"n_layer":3})"));
  EXPECT_FLOAT_EQ(numbers(model, "rwkv.blocks.0.attention.time_decay")[0], -5);
  EXPECT_FLOAT_EQ(numbers(model, "rwkv.blocks.2.attention.time_decay")[64],
                  float(-5 + 8 * std::pow(64.0 / 127, 2)));
  EXPECT_FLOAT_EQ(numbers(model, "rwkv.blocks.0.attention.time_first")[1], float(std::log(0.3) + 0.5));
  EXPECT_FLOAT_EQ(numbers(model, "rwkv.blocks.2.attention.time_mix_value")[64],
                  float(std::pow(0.5, 1.0 / 3) + 0.3));
  EXPECT_EQ(model.state_bytes_per_stream(), 3 * 5 * 128 * 4);
}

// One tape records, another pass runs in between, and only then the first goes back.
TEST(Rwkv7, AnotherPassInBetweenChangesNoGradient) {
  std::vector<std::vector<float>> gradients;
  for (const bool between : {false, true}) {
    Model model(json::parse(
        R"({"architecture":"rwkv7","vocab_size":17,"d_model":12,"n_layer":3,"head_dim":6,"v_low_rank_dim":2})"));
    testing::enlarge(model);
    const auto tokens = testing::random_tokens(14, 17, 1), targets = testing::random_tokens(14, 17, 2);
    State state = model.make_state(2);
    Tape tape;
    tape.start(true);
    Var loss = cross_entropy(tape, model.forward(tape, state, tokens, 2, 7), targets);
    if (between) testing::logits_in_chunks(model, testing::random_tokens(40, 17, 3), {33, 7});
    tape.backward(loss);
    std::vector<float>& all = gradients.emplace_back();
    for (const Parameter& p : model.parameters().all())
      all.insert(all.end(), p.gradient.f32(), p.gradient.f32() + p.size());
  }
  EXPECT_EQ(gradients[0], gradients[1]);
}

// The first of its kind need not be the first layer.
TEST(Rwkv7, AmongOtherMixers) {
  Model model(json::parse(R"({"architecture":"stack","vocab_size":17,"d_model":12,"n_layer":4,"d_state":4,
      "mixer":["mamba",{"type":"rwkv7","head_dim":6}],"feed":["none","rwkv7_ffn"]})"));
  testing::enlarge(model);
  EXPECT_EQ(model.parameters().find("layers.1.mixer.v_lora.lora.2.bias"), nullptr);
  EXPECT_NE(model.parameters().find("layers.3.mixer.v_lora.lora.2.bias"), nullptr);
  const auto tokens = testing::random_tokens(20, 17, 4);
  const auto whole = testing::logits_in_chunks(model, tokens, {20}),
             parts = testing::logits_in_chunks(model, tokens, {1, 1, 11, 7});
  float largest = 0;
  for (const float x : whole) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(whole[i], parts[i], 1e-5f * largest);
}

}  // namespace
}  // namespace brood
