#include "brood/learn/comparison.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "brood/learn/comparison_report.h"
#include "brood/learn/speed.h"
#include "brood/model/cost.h"

namespace brood {
namespace {

const nlohmann::json kMamba = {{"architecture", "mamba"}, {"d_model", 16}, {"n_layer", 1}};
const nlohmann::json kAttention = {
    {"architecture", "transformer"}, {"d_model", 16}, {"n_head", 2}, {"n_layer", 1}};
const nlohmann::json kNeurons = {
    {"architecture", "bdh"}, {"d_model", 16}, {"n_neuron", 64}, {"n_head", 2}, {"n_layer", 1}};

std::vector<uint8_t> some_text(size_t n) {
  std::vector<uint8_t> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = uint8_t("the stream goes on and never ends. "[i % 35]);
  return bytes;
}

ComparisonSettings small() {
  ComparisonSettings settings;
  settings.training.batch = 2;
  settings.training.context = 16;
  settings.training.schedule.total = 8;
  settings.contexts = {32, 100};
  settings.seconds = 0.01;
  return settings;
}

nlohmann::json measured(const nlohmann::json& config, const ComparisonSettings& settings,
                        const ComparisonEvents& events = {}) {
  const auto text = some_text(2000);
  return compare_one(std::make_unique<Model>(config, 1), std::span(text).first(1500),
                     std::span(text).subspan(1500), settings, events);
}

// A document as the program makes one.
nlohmann::json document_of(nlohmann::json models, bool trained = true) {
  int i = 0;
  for (auto& model : models) model["name"] = fmt::format("m{}", ++i);
  nlohmann::json document = {{"trained", trained},
                             {"budget", "8 steps"},
                             {"batch", 2},
                             {"context", 16},
                             {"threads", 1},
                             {"cpu", "a <cpu>"},
                             {"precision", "f32"},
                             {"data_bytes", 1500},
                             {"valid_bytes", 500},
                             {"loss_bits_per_byte", nullptr},
                             {"models", std::move(models)}};
  add_time_to_loss(document);
  return document;
}

TEST(Comparison, MeasuresWhatItPromises) {
  const auto model = measured(kMamba, small());
  EXPECT_EQ(model["steps"], 8);
  EXPECT_EQ(model["bytes"], 8 * 2 * 16);
  EXPECT_EQ(model["parameters"], Model(kMamba).parameter_count());
  EXPECT_GT(model["bits_per_byte"].get<double>(), 1);
  EXPECT_GT(model["train_bytes_per_second"].get<double>(), 0);
  EXPECT_TRUE(model["awake"].is_null());
  ASSERT_EQ(model["curve"].size(), 8u);
  EXPECT_EQ(model["curve"].back()[1], model["bytes"]);
  ASSERT_EQ(model["contexts"].size(), 2u);
  for (const auto& at : model["contexts"]) {
    EXPECT_GT(at["prefill_bytes_per_second"].get<double>(), 0);
    EXPECT_GT(at["decode_bytes_per_second"].get<double>(), 0);
    EXPECT_EQ(at["state_bytes"], Model(kMamba).state_bytes_per_stream()) << "the same at every context";
  }
}

// Equal models, read in equal order, learn the same to the bit.
TEST(Comparison, TheOrderOfTheDataIsTheSameForAll) {
  auto settings = small();
  settings.contexts.clear();
  const auto first = measured(kMamba, settings), other = measured(kAttention, settings),
             again = measured(kMamba, settings);
  EXPECT_EQ(first["bits_per_byte"], again["bits_per_byte"]);
  EXPECT_NE(first["bits_per_byte"], other["bits_per_byte"]);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(first["curve"][i][2], again["curve"][i][2]);
}

TEST(Comparison, ACacheGrowsWithTheContext) {
  const auto contexts = measured(kAttention, small())["contexts"];
  EXPECT_GT(contexts[1]["state_bytes"].get<int64_t>(), 2 * contexts[0]["state_bytes"].get<int64_t>());
  const auto awake = measured(kNeurons, small())["awake"];
  EXPECT_GT(awake.get<double>(), 0.05);
  EXPECT_LT(awake.get<double>(), 0.95);
}

TEST(Comparison, SpeedsAloneNeedNoText) {
  auto settings = small();
  settings.train = false;
  const auto model = compare_one(std::make_unique<Model>(kMamba, 1), {}, {}, settings);
  EXPECT_TRUE(model["bits_per_byte"].is_null());
  EXPECT_GT(model["train_bytes_per_second"].get<double>(), 0);
  EXPECT_EQ(model["contexts"].size(), 2u);
}

TEST(Comparison, GivesNothingWhenStopped) {
  int asked = 0;
  EXPECT_TRUE(measured(kMamba, small(), {.stop = [&] { return ++asked > 3; }, .progress = {}}).is_null());
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

TEST(TimeToLoss, IsToldForTheWorstUnlessAnotherIsAsked) {
  nlohmann::json document = {{"loss_bits_per_byte", nullptr},
                             {"models",
                              {{{"curve", {{1.0, 10, 5.0}, {2.0, 20, 3.0}, {3.0, 30, 2.0}}}},
                               {{"curve", {{1.5, 10, 4.0}, {2.5, 20, 3.5}, {3.5, 30, 3.0}}}},
                               {{"curve", nlohmann::json::array()}}}}};
  add_time_to_loss(document);
  EXPECT_EQ(document["loss_bits_per_byte"], 3.0);
  EXPECT_EQ(document["models"][0]["seconds_to_loss"], 2.0);
  EXPECT_EQ(document["models"][1]["seconds_to_loss"], 3.5);
  EXPECT_TRUE(document["models"][2]["seconds_to_loss"].is_null());
  document["loss_bits_per_byte"] = 2.5;
  add_time_to_loss(document);
  EXPECT_EQ(document["models"][0]["seconds_to_loss"], 3.0);
  EXPECT_TRUE(document["models"][1]["seconds_to_loss"].is_null());
}

// The page holds every cell of the table, closes what it opens, and loads nothing.
TEST(Report, TableAndPageSayTheSame) {
  const auto document = document_of({measured(kMamba, small()), measured(kNeurons, small())});
  const auto cells = comparison_cells(document);
  ASSERT_EQ(cells.size(), 3u);
  EXPECT_EQ(cells[1][0], "m1");
  EXPECT_EQ(cells[1][2], fmt::format("{:.3f}", document["models"][0]["bits_per_byte"].get<double>()));
  const std::string table = comparison_table(document), page = comparison_page(document);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 3);
  for (const auto& row : cells) {
    EXPECT_EQ(row.size(), cells[0].size());
    for (const auto& cell : row) {
      EXPECT_NE(table.find(cell), std::string::npos) << cell;
      EXPECT_NE(page.find(cell), std::string::npos) << cell;
    }
  }
  const auto count = [&](const std::string& what) {
    size_t n = 0;
    for (size_t at = page.find(what); at != std::string::npos; at = page.find(what, at + 1)) ++n;
    return n;
  };
  EXPECT_EQ(count("<svg "), 5u);
  for (const std::string tag : {"svg", "table", "tr", "td", "th", "g", "p", "div", "style", "body", "html"}) {
    EXPECT_EQ(count(fmt::format("<{}>", tag)) + count(fmt::format("<{} ", tag)),
              count(fmt::format("</{}>", tag)))
        << tag;
  }
  EXPECT_EQ(count("<polyline"), 10u);
  for (const char* outside : {"http", "src=", "<script", "@import", "url("})
    EXPECT_EQ(count(outside), 0u) << outside;
  EXPECT_NE(page.find("a &lt;cpu&gt;"), std::string::npos);
}

TEST(Report, WithoutTrainingThereIsNoLearningToShow) {
  auto settings = small();
  settings.train = false;
  const auto document =
      document_of({compare_one(std::make_unique<Model>(kMamba, 1), {}, {}, settings)}, false);
  EXPECT_EQ(comparison_table(document).find("bits"), std::string::npos);
  EXPECT_EQ(comparison_page(document).find("Learning"), std::string::npos);
}

}  // namespace
}  // namespace brood
