// What is said of a comparison: its file, its claims, its tables and its page.
#include "brood/learn/comparison_report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "brood/base/error.h"
#include "brood/learn/comparison_claims.h"
#include "brood/learn/comparison_file.h"

namespace brood {
namespace {

using Status = ComparedModel::Status;
using Verdict = Claim::Verdict;

const nlohmann::json kMamba = {{"architecture", "mamba"}, {"d_model", 16}};
const nlohmann::json kTransformer = {
    {"architecture", "transformer"}, {"d_model", 16}, {"feed", "swiglu"}, {"window", 2048}};

ComparedModel waiting(const std::string& name, const nlohmann::json& config) {
  ComparedModel model;
  model.name = name;
  model.source = fmt::format("{}.json", name);
  model.config = config;
  model.weights = std::string(16, '0');
  model.parameters = 1000;
  return model;
}

// A Transformer of 1,000 parameters, and one of constant state that learns seven times as fast.
Comparison measured() {
  ComparedModel transformer = waiting("transformer", kTransformer), mamba = waiting("m<1>", kMamba);
  for (ComparedModel* model : {&transformer, &mamba}) {
    model->status = Status::kFinished;
    model->steps = 4;
    model->bytes = 128;
    model->seconds = 4;
    model->train_rate = 32;
    model->peak_memory = 20000;
  }
  transformer.bits_per_byte = 3.1;
  transformer.curve = {{7, 32, 5}, {14, 64, 4}, {21, 96, 3.5}, {28, 128, 3.25}};
  transformer.contexts = {{128, 100, 100, 1000}, {1024, 90, 80, 8000}, {8192, 50, 10, 64000}};
  mamba.bits_per_byte = 2.9;
  mamba.curve = {{1, 32, 5}, {2, 64, 4}, {3, 96, 3.5}, {4, 128, 3}};
  mamba.contexts = {{128, 500, 50, 400}, {1024, 450, 50, 400}, {8192, 250, 50, 400}, {1 << 20, 240, 45, 400}};
  mamba.awake = 0.048;
  ComparisonSettings settings;
  settings.training.batch = 2;
  settings.training.context = 16;
  settings.training.schedule.total = 4;
  const std::vector<uint8_t> data(1500), valid(500);
  Comparison comparison{comparison_conditions(settings, {data, valid}), {}, {}};
  comparison.conditions["cpu"] = "a <cpu>";
  comparison.models = {transformer, mamba};
  return comparison;
}

TEST(ComparisonFile, GivesBackWhatWasFoundOut) {
  Comparison comparison = measured();
  comparison.models[0].status = Status::kDiverged;
  comparison.models[0].diverged_at = 3;
  const auto document = nlohmann::json::parse(comparison_json(comparison).dump());
  Comparison again = measured();
  again.models = {waiting("transformer", kTransformer), waiting("m<1>", kMamba)};
  go_on_from(again, document, "folder");
  EXPECT_EQ(comparison_json(again), comparison_json(comparison));
  EXPECT_EQ(again.models[0].status, Status::kDiverged);
  EXPECT_EQ(again.models[1].contexts.size(), 4u);
  EXPECT_EQ(again.models[1].curve[3].bits, 3);
}

// What `change` makes of a comparison is not what was begun.
void expect_another(const std::function<void(Comparison&)>& change, const std::string& named) {
  Comparison other = measured();
  change(other);
  try {
    go_on_from(other, comparison_json(measured()), "folder");
    FAIL() << named;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--overwrite"), std::string::npos) << error.what();
  }
}

TEST(ComparisonFile, NamesWhatDiffersFromWhatWasBegun) {
  const nlohmann::json conditions = measured().conditions;
  for (const auto& [key, value] : conditions.items())
    expect_another([&](Comparison& other) { other.conditions[key] = "another"; }, fmt::format("\"{}\"", key));
  expect_another([](Comparison& other) { other.conditions.erase("batch"); }, "\"batch\" 2, not none");
  expect_another([](Comparison& other) { other.models.pop_back(); }, "the models");
  expect_another([](Comparison& other) { std::swap(other.models[0], other.models[1]); }, "the models");
  expect_another([](Comparison& other) { other.models[1].config["d_model"] = 32; },
                 "\"d_model\" of m<1> 16, not 32");
  expect_another([](Comparison& other) { other.models[1].weights = "fedcba9876543210"; }, "weights of m<1>");
}

TEST(ComparisonFile, DoesNotBelieveWhatItReads) {
  const auto expect_refused = [](const std::string& pointer, const nlohmann::json& value) {
    auto document = comparison_json(measured());
    document[nlohmann::json::json_pointer(pointer)] = value;
    Comparison again = measured();
    EXPECT_THROW(go_on_from(again, document, "folder"), Error) << pointer << " " << value;
  };
  const nlohmann::json text = "x", list = nlohmann::json::array(), none;
  for (const auto& value : {text, list, none}) {
    expect_refused("/conditions", value);
    expect_refused("/models", value);
    expect_refused("/models/1", value);
    for (const char* key : {"name", "config", "weights", "status", "steps", "seconds"})
      expect_refused(fmt::format("/models/1/{}", key), value);
  }
  for (const char* key : {"train_bytes_per_second", "bits_per_byte", "awake", "peak_memory_bytes", "bytes"})
    expect_refused(fmt::format("/models/0/{}", key), -1);
  expect_refused("/models/0/steps", 2.5);
  expect_refused("/models/0/curve", 3);
  expect_refused("/models/0/curve/0", 3);
  expect_refused("/models/0/curve/0/1", 0);
  expect_refused("/models/0/curve/1/1", 32);
  expect_refused("/models/0/contexts/0", none);
  expect_refused("/models/0/contexts/0/state_bytes", "much");
  Comparison again = measured();
  EXPECT_THROW(go_on_from(again, nlohmann::json(3), "folder"), Error);
}

Claim claim_about(const Comparison& comparison, const std::string& words) {
  for (const Claim& claim : comparison_claims(comparison))
    if (claim.claim.find(words) != std::string::npos) return claim;
  ADD_FAILURE() << words;
  return {};
}

TEST(Claims, AreJudgedByWhatWasMeasured) {
  const Comparison comparison = measured();
  const auto verdict = [&](const char* words) { return claim_about(comparison, words).verdict; };
  EXPECT_EQ(verdict("writing"), Verdict::kInPart);
  EXPECT_EQ(claim_about(comparison, "writing").measured, "0.5× at 128, 0.625× at 1k, 5× at 8k");
  EXPECT_EQ(claim_about(comparison, "writing").against, "transformer");
  EXPECT_EQ(verdict("reading"), Verdict::kHolds);
  EXPECT_EQ(verdict("training"), Verdict::kHolds) << "28 s and 4 s";
  EXPECT_EQ(verdict("memory"), Verdict::kInPart) << "68 kB and 4.4 kB at the end";
  EXPECT_EQ(verdict("faster below"), Verdict::kHolds);
  EXPECT_EQ(verdict("a million"), Verdict::kHolds);
  EXPECT_EQ(verdict("5 %"), Verdict::kHolds);
}

TEST(Claims, FallWhenTheFiguresDo) {
  Comparison comparison = measured();
  ComparedModel& mamba = comparison.models[1];
  for (ContextMeasure& at : mamba.contexts) at.write = 10, at.read = 10, at.state_bytes = 100000;
  mamba.contexts.back().write = 7;
  mamba.curve.back().bits = 3.3;
  mamba.awake.reset();
  for (const char* words : {"writing", "reading", "training", "memory", "a million", "5 %"})
    EXPECT_EQ(claim_about(comparison, words).verdict, Verdict::kDoesNotHold) << words;
  for (ContextMeasure& at : mamba.contexts) at.write = 1000;
  EXPECT_EQ(claim_about(comparison, "faster below").verdict, Verdict::kDoesNotHold);
  mamba.contexts.pop_back();
  EXPECT_EQ(claim_about(comparison, "a million").verdict, Verdict::kNotMeasured);
  mamba.contexts.back().state_bytes *= 2;
  EXPECT_EQ(claim_about(comparison, "a million").verdict, Verdict::kDoesNotHold) << "its state grows";
}

TEST(Claims, WantATransformerOfTheSameSize) {
  Comparison comparison = measured();
  comparison.models[0].parameters = 1501;
  EXPECT_EQ(claim_about(comparison, "writing").verdict, Verdict::kNotMeasured);
  comparison.models[0].parameters = 1500;
  EXPECT_EQ(claim_about(comparison, "writing").verdict, Verdict::kInPart);
  const nlohmann::json others = {{"feed", "switch"}, {"window", 64}};
  for (const auto& [key, value] : others.items()) {
    comparison.models[0].config = kTransformer;
    comparison.models[0].config[key] = value;
    EXPECT_NE(comparison_claims(comparison)[0].against, "transformer");
  }
  comparison.models[0].config = kTransformer;
  comparison.models[0].status = Status::kDiverged;
  EXPECT_EQ(comparison_claims(comparison).size(), 2u) << "those that want no other";
  EXPECT_EQ(claim_about(comparison, "a million").verdict, Verdict::kHolds);
  comparison.models[1].status = Status::kTrained;
  EXPECT_TRUE(comparison_claims(comparison).empty()) << "its measuring is not finished";
}

TEST(TimeToLoss, IsToldForTheWorstUnlessAnotherIsAsked) {
  Comparison comparison = measured();
  EXPECT_EQ(comparison.loss_in_question(), 3.25);
  EXPECT_EQ(comparison.models[0].seconds_to(3.25), 28);
  EXPECT_EQ(comparison.models[1].seconds_to(3.25), 4);
  comparison.loss = 3.1;
  EXPECT_EQ(comparison.loss_in_question(), 3.1);
  EXPECT_FALSE(comparison.models[0].seconds_to(3.1));
  comparison.loss.reset();
  comparison.models[0].status = Status::kDiverged;
  EXPECT_EQ(comparison.loss_in_question(), 3) << "what ran away has ended nowhere";
}

// The page holds every cell of the tables, closes what it opens, and loads nothing.
TEST(Report, TableAndPageSayTheSame) {
  Comparison comparison = measured();
  comparison.models.push_back(waiting("lost", kMamba));
  comparison.models.back().status = Status::kDiverged;
  comparison.models.back().diverged_at = 17;
  comparison.models.push_back(waiting("not begun", kMamba));
  const std::string text = comparison_text(comparison), page = comparison_page(comparison);
  const auto tables = comparison_tables(comparison);
  ASSERT_EQ(tables.size(), 4u);
  for (const ReportTable& table : tables) {
    ASSERT_EQ(table.rows.size(), 4u) << "a heading, two that are finished, one that diverged";
    for (const auto& row : table.rows) {
      EXPECT_EQ(row.size(), table.rows[0].size());
      for (const auto& cell : row) {
        EXPECT_NE(text.find(cell), std::string::npos) << cell;
        if (cell != "m<1>") {
          EXPECT_NE(page.find(fmt::format(">{}</", cell)), std::string::npos) << cell;
        }
      }
    }
  }
  EXPECT_EQ(tables[0].rows[2][2], "4 kB") << "the weights, in bytes";
  EXPECT_EQ(tables[0].rows[2][3], "2.900");
  EXPECT_EQ(tables[0].rows[3][3], "diverged at step 17");
  EXPECT_EQ(tables[2].rows[1].back(), "–") << "a million bytes were not for the Transformer";
  EXPECT_EQ(text.find("not begun"), std::string::npos);
  EXPECT_EQ(page.find("not begun"), std::string::npos);
  for (const Claim& claim : comparison_claims(comparison)) {
    EXPECT_NE(text.find(claim.measured), std::string::npos);
    EXPECT_NE(page.find(verdict_text(claim.verdict)), std::string::npos);
  }
}

TEST(Report, ThePageIsWholeAndByItself) {
  const std::string page = comparison_page(measured());
  const auto count = [&](const std::string& what) {
    size_t n = 0;
    for (size_t at = page.find(what); at != std::string::npos; at = page.find(what, at + 1)) ++n;
    return n;
  };
  EXPECT_EQ(count("<svg "), 5u);
  for (const std::string tag :
       {"svg", "table", "tr", "td", "th", "g", "p", "div", "h2", "span", "style", "body", "html"}) {
    EXPECT_EQ(count(fmt::format("<{}>", tag)) + count(fmt::format("<{} ", tag)),
              count(fmt::format("</{}>", tag)))
        << tag;
  }
  EXPECT_EQ(count("<polyline"), 10u);
  for (const char* outside : {"http", "src=", "href", "<script", "@import", "url("})
    EXPECT_EQ(count(outside), 0u) << outside;
  EXPECT_NE(page.find("a &lt;cpu&gt;"), std::string::npos);
  EXPECT_NE(page.find("m&lt;1&gt;"), std::string::npos);
  EXPECT_EQ(count("m<1>"), 0u);
}

TEST(Report, WithoutTrainingThereIsNoLearningToShow) {
  Comparison comparison = measured();
  comparison.conditions["trained"] = false;
  for (ComparedModel& model : comparison.models) {
    model.curve.clear();
    model.bits_per_byte.reset();
  }
  EXPECT_EQ(comparison_text(comparison).find("bits"), std::string::npos);
  EXPECT_EQ(comparison_page(comparison).find("Learning"), std::string::npos);
  EXPECT_EQ(claim_about(comparison, "training").verdict, Verdict::kNotMeasured);
}

}  // namespace
}  // namespace brood
