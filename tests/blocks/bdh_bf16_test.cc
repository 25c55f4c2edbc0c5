// Dragon Hatchling in bf16: near f32, lists near dense, and the numbers read are the rounded ones.
#include "tests/blocks/bdh_models.h"

namespace brood {
namespace {

using namespace bdh_models;

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

}  // namespace
}  // namespace brood
