#include "brood/learn/comparison.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "brood/base/error.h"
#include "brood/learn/comparison_file.h"
#include "brood/learn/speed.h"
#include "brood/model/cost.h"
#include "brood/model/directory.h"
#include "tests/fixture/scratch_directory.h"

namespace brood {
namespace {

using Status = ComparedModel::Status;

const nlohmann::json kMamba = {{"architecture", "mamba"}, {"d_model", 16}, {"n_layer", 1}};
const nlohmann::json kAttention = {
    {"architecture", "transformer"}, {"d_model", 16}, {"n_head", 2}, {"n_layer", 1}};
const nlohmann::json kNeurons = {
    {"architecture", "bdh"}, {"d_model", 16}, {"n_neuron", 64}, {"n_head", 2}, {"n_layer", 1}};

class Comparing : public testing::Test {
 protected:
  Comparing() {
    for (size_t i = 0; i < 2000; ++i) bytes.push_back(uint8_t("the stream goes on and never ends. "[i % 35]));
    settings.training.batch = 2;
    settings.training.context = 16;
    settings.training.schedule.total = 8;
    settings.contexts = {32, 100};
    settings.long_context = 0;
    settings.seconds = 0.01;
  }

  ComparedModel model_of(const nlohmann::json& config) const {
    const std::string source = directory.write("model.json", config.dump());
    return model_to_compare("model", source, *load_model(source, settings.training.seed).model);
  }
  void go_on(ComparedModel& model, const ComparisonEvents& events = {},
             const std::string& folder = "") const {
    const ComparisonTexts texts{std::span(bytes).first(1500), std::span(bytes).subspan(1500, valid_bytes)};
    compare_one(model, folder, settings.train ? texts : ComparisonTexts{}, settings, events);
  }
  ComparedModel measured(const nlohmann::json& config) const {
    ComparedModel model = model_of(config);
    go_on(model);
    return model;
  }

  ScratchDirectory directory;
  std::vector<uint8_t> bytes;
  size_t valid_bytes = 500;
  ComparisonSettings settings;
};

TEST_F(Comparing, MeasuresWhatItPromises) {
  const auto model = measured(kMamba);
  EXPECT_EQ(model.status, Status::kFinished);
  EXPECT_EQ(model.steps, 8);
  EXPECT_EQ(model.bytes, 8 * 2 * 16);
  EXPECT_EQ(model.parameters, Model(kMamba).parameter_count());
  EXPECT_EQ(model.weight_bytes(), 4 * model.parameters);
  EXPECT_GT(*model.bits_per_byte, 1);
  EXPECT_GT(*model.train_rate, 0);
  EXPECT_FALSE(model.awake);
  ASSERT_EQ(model.curve.size(), 8u);
  EXPECT_EQ(model.curve.back().bytes, model.bytes);
  ASSERT_EQ(model.contexts.size(), 2u);
  for (const auto& at : model.contexts) {
    EXPECT_GT(at.read, 0);
    EXPECT_GT(at.write, 0);
    EXPECT_EQ(at.state_bytes, Model(kMamba).state_bytes_per_stream()) << "the same at every context";
  }
}

// Gradients and two moments are as large as the weights, which are held as well.
TEST_F(Comparing, ThePeakHoldsWeightsGradientsAndMoments) {
  settings.contexts.clear();
  for (const bool train : {true, false}) {
    settings.train = train;
    const auto model = measured({{"architecture", "mamba"}, {"d_model", 256}, {"n_layer", 4}});
    if (!model.peak_memory) GTEST_SKIP() << "this system does not say";
    EXPECT_GT(*model.peak_memory, 3 * model.weight_bytes());
  }
}

// Equal models, read in equal order, learn the same to the bit.
TEST_F(Comparing, TheOrderOfTheDataIsTheSameForAll) {
  settings.contexts.clear();
  const auto first = measured(kMamba), other = measured(kAttention), again = measured(kMamba);
  EXPECT_EQ(first.bits_per_byte, again.bits_per_byte);
  EXPECT_NE(first.bits_per_byte, other.bits_per_byte);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(first.curve[i].bits, again.curve[i].bits);
}

TEST_F(Comparing, ACacheGrowsWithTheContext) {
  const auto contexts = measured(kAttention).contexts;
  EXPECT_GT(contexts[1].state_bytes, 2 * contexts[0].state_bytes);
  const auto awake = measured(kNeurons).awake;
  EXPECT_GT(*awake, 0.05);
  EXPECT_LT(*awake, 0.95);
}

TEST_F(Comparing, OnlyWhatDoesNotGrowReadsTheLongContext) {
  settings.long_context = 400;
  EXPECT_EQ(measured(kMamba).contexts.back().context, 400);
  EXPECT_EQ(measured(kAttention).contexts.back().context, 100) << "its cache grows";
  auto narrow = kAttention;
  narrow["window"] = 64;
  EXPECT_EQ(measured(narrow).contexts.back().context, 400) << "its cache is full";
  settings.contexts.clear();
  EXPECT_EQ(measured(kMamba).contexts.size(), 1u);
}

TEST_F(Comparing, SpeedsAloneNeedNoText) {
  settings.train = false;
  const auto model = measured(kMamba);
  EXPECT_EQ(model.status, Status::kFinished);
  EXPECT_FALSE(model.bits_per_byte);
  EXPECT_GT(*model.train_rate, 0);
  EXPECT_EQ(model.contexts.size(), 2u);
}

// Stopped again and again, wherever it asks, it still comes to the same, and nothing is done twice.
TEST_F(Comparing, StoppedAnywhereItGoesOnAsIfItHadNotBeen) {
  settings.training.schedule.total = 40;
  settings.seconds = 1e-9;
  valid_bytes = 100;
  const auto whole = measured(kMamba);
  // Less would not last from one thing that is kept to the next.
  for (int patience = 9; patience < 45; patience += 4) {
    ComparedModel model = model_of(kMamba);
    const std::string folder = directory / fmt::format("kept{}", patience);
    Comparison kept;
    int runs = 0;
    for (; model.status != Status::kFinished; ++runs) {
      ASSERT_LT(runs, 100) << "it makes no way";
      const Status before = model.status;
      int asked = 0;
      go_on(model,
            {.stop = [&] { return ++asked > patience; },
             .progress = {},
             .keep = [&] { EXPECT_GE(model.status, before); }},
            folder);
      // Through the file, as the program does it.
      kept.conditions = nlohmann::json::object();
      kept.models = {model};
      const auto document = comparison_json(kept);
      kept.models = {model_of(kMamba)};
      go_on_from(kept, document, folder);
      model = kept.models[0];
    }
    EXPECT_GT(runs, 1);
    EXPECT_EQ(model.bits_per_byte, whole.bits_per_byte);
    EXPECT_EQ(model.steps, whole.steps);
    ASSERT_EQ(model.curve.size(), whole.curve.size());
    for (size_t i = 0; i < whole.curve.size(); ++i) {
      EXPECT_EQ(model.curve[i].bytes, whole.curve[i].bytes);
      EXPECT_EQ(model.curve[i].bits, whole.curve[i].bits);
    }
    EXPECT_EQ(model.contexts.size(), whole.contexts.size());
  }
}

TEST_F(Comparing, ATrainingIsKeptBeforeTheMeasuring) {
  ComparedModel model = model_of(kMamba);
  const std::string folder = directory / "kept";
  go_on(model, {.stop = [&] { return model.status == Status::kTrained; }, .progress = {}, .keep = {}},
        folder);
  EXPECT_EQ(model.status, Status::kTrained);
  EXPECT_TRUE(model.bits_per_byte);
  EXPECT_TRUE(model.contexts.empty());
  const auto loaded = load_model(folder);
  EXPECT_EQ(loaded.progress->steps, 8);
  // Another model in its place is not measured in its name.
  save_model(folder, *load_model(model.source, 1).model, nullptr, nullptr);
  EXPECT_THROW(go_on(model, {}, folder), Error);
}

TEST_F(Comparing, OneThatDivergesIsRecorded) {
  settings.training.schedule = {Schedule::Shape::kConstant, 1e37, 1, 0, 8};
  for (const std::string& folder : {std::string(), directory / "kept"}) {
    ComparedModel model = model_of(kMamba);
    bool kept = false;
    go_on(model, {.stop = {}, .progress = {}, .keep = [&] { kept = model.status == Status::kDiverged; }},
          folder);
    EXPECT_EQ(model.status, Status::kDiverged);
    EXPECT_TRUE(kept);
    EXPECT_GE(model.diverged_at, 2);
    EXPECT_LE(model.diverged_at, 8);
    EXPECT_FALSE(model.bits_per_byte);
    go_on(model, {}, folder);
    EXPECT_EQ(model.status, Status::kDiverged) << "nothing is tried again";
  }
}

TEST_F(Comparing, ACurveStaysShort) {
  settings.contexts.clear();
  settings.training.batch = settings.training.context = 1;
  settings.training.schedule.total = 1003;
  const auto curve = measured(kMamba).curve;
  EXPECT_GT(curve.size(), 150u);
  EXPECT_LE(curve.size(), 401u);
  EXPECT_EQ(curve.back().bytes, 1003);
  for (size_t i = 0; i + 1 < curve.size(); ++i) EXPECT_EQ(curve[i].bytes, curve[0].bytes * int64_t(i + 1));
}

TEST(ComparisonNames, AreDistinctFileNamesThatSayWhatIsMeant) {
  using Names = std::vector<std::string>;
  const auto names = [](const Names& sources) { return comparison_names(sources); };
  EXPECT_EQ(names({"mamba-s", "transformer-s"}), (Names{"mamba-s", "transformer-s"}));
  EXPECT_EQ(names({"a/", "m.v1", "x.json", "y/z.v2.json"}), (Names{"a", "m.v1", "x", "z.v2"}));
  EXPECT_EQ(names({"a/m.json", "b/m.json", "c"}), (Names{"a-m", "b-m", "c"}));
  EXPECT_EQ(names({"x/a/m", "y/a/m"}), (Names{"x-a-m", "y-a-m"}));
  EXPECT_EQ(names({"m", "m", "m-2"}), (Names{"m", "m-3", "m-2"}));
  EXPECT_EQ(names({"a/m", "b/m", "a/m"}), (Names{"a-m", "b-m", "a-m-2"}));
  EXPECT_EQ(names({"/"}), (Names{"model"}));
  EXPECT_NE(names({"comparison.json.json"})[0], "comparison.json");
  const std::string here = std::filesystem::current_path().filename().string();
  EXPECT_EQ(names({"."})[0], here);
  EXPECT_EQ(names({"a/.."})[0], here);
  EXPECT_EQ(names({".."})[0], std::filesystem::current_path().parent_path().filename().string());
}

TEST(Windows, OnlyThoseThatStandForThePastGrow) {
  const auto widened = [](nlohmann::json config) {
    return with_wide_windows(std::make_unique<Model>(config, 3), 1024, 5000)->config();
  };
  EXPECT_EQ(widened(kAttention)["window"], 5000);
  auto narrow = kAttention;
  narrow["window"] = 64;
  EXPECT_EQ(widened(narrow)["window"], 64);
  const auto hybrid =
      widened({{"architecture", "stack"},
               {"d_model", 16},
               {"n_layer", 2},
               {"mixer", {{{"type", "attention"}, {"n_head", 2}, {"window", 2000}}, "mamba"}}});
  EXPECT_EQ(hybrid["mixer"][0]["window"], 5000);
  // Weights and what they say stay the same.
  Model before(kAttention, 3);
  const auto after = with_wide_windows(std::make_unique<Model>(kAttention, 3), 1024, 5000);
  for (size_t i = 0; i < before.parameters().all().size(); ++i) {
    const Parameter &a = before.parameters().all()[i], &b = after->parameters().all()[i];
    EXPECT_TRUE(std::equal(a.value.f32(), a.value.f32() + a.size(), b.value.f32())) << a.name;
  }
}

TEST(HeldState, OfACacheIsWhatItsWindowSees) {
  auto config = kAttention;
  config["window"] = 100;
  const Model model(config);
  constexpr int64_t kRow = 2 * 8 * 4;  // a key and a value of 8 numbers
  EXPECT_EQ(held_state_bytes(model, 30) - held_state_bytes(model, 20), 10 * kRow);
  EXPECT_EQ(held_state_bytes(model, 100), held_state_bytes(model, 1000));
}

}  // namespace
}  // namespace brood
