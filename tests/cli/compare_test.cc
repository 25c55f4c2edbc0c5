// Models side by side: what is printed, what is kept, what is refused, and what an interruption leaves.
#include <cstring>

#include "tests/cli/program.h"

namespace brood::test {
namespace {

using Words = std::vector<std::string>;

class Compare : public testing::Test {
 protected:
  Words command(const Words& models, const Words& more = {}) const {
    Words words{"compare"};
    words.insert(words.end(), models.begin(), models.end());
    for (const char* word :
         {"--batch", "2", "--context", "16", "--contexts", "40", "20", "--measure", "0.001"})
      words.push_back(word);
    for (const std::string& word : Words{"--data", text, "--save", race}) words.push_back(word);
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static Words with(Words words, const Words& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  // What is kept; null while there is nothing. It is replaced in one move, so it is always whole.
  nlohmann::json kept() const {
    const std::string document = read_file(race + "/comparison.json");
    return document.empty() ? nlohmann::json() : nlohmann::json::parse(document);
  }
  std::string status(size_t model) const {
    const auto document = kept();
    return document.is_null() ? "" : document.at("models").at(model).at("status").get<std::string>();
  }

  // Starts the command and interrupts it once it has kept something that is ready.
  Result interrupted_when(const Words& words, const std::function<bool()>& ready) const {
    const std::string document = race + "/comparison.json";
    std::error_code absent;
    const auto before = std::filesystem::last_write_time(document, absent);
    Process compare(words);
    // The first thing that is kept comes after the handler of the signal.
    seconds_until([&] { return std::filesystem::last_write_time(document, absent) != before && ready(); });
    compare.kill(SIGINT);
    const Result result = compare.wait();
    EXPECT_EQ(result.code, 130) << result.err;
    EXPECT_EQ(result.json(), kept());
    return result;
  }

  const Folder folder;
  const std::string text = folder.write("text", some_text(6000)), race = folder / "race";
  const std::string tiny = folder.write("tiny.json", kTinyMamba);
  const std::string attention = folder.write("attention.json", kTinyTransformer);
  const Words steps{"--steps", "6", "--long-context", "0"};
};

TEST_F(Compare, LaysModelsSideBySide) {
  const Words words = command({tiny, attention, tiny}, steps);
  const Result table = run(words);
  ASSERT_EQ(table.code, 0) << table.err;
  EXPECT_NE(read_file(race + "/comparison.html").find("</html>"), std::string::npos);

  const Result again = run(with(words, {"--resume", "--json"}));
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_NE(again.err.find("tiny: before: finished"), std::string::npos) << again.err;
  const auto models = again.json().at("models");
  ASSERT_EQ(models.size(), 3u);
  EXPECT_EQ(models[1]["name"], "attention");
  EXPECT_EQ(models[2]["name"], "tiny-2");
  EXPECT_EQ(models[0]["bits_per_byte"], models[2]["bits_per_byte"]) << "the same model, the same bytes";
  EXPECT_EQ(models[0]["contexts"][0]["context"], 20);
  EXPECT_EQ(models[0]["bytes"], 6 * 2 * 16);
  // The table shows the document's numbers.
  for (const auto& model : models) {
    EXPECT_NE(table.out.find(std::to_string(model["bits_per_byte"].get<double>()).substr(0, 4)),
              std::string::npos)
        << table.out;
  }
  EXPECT_EQ(run({"eval", race + "/tiny-2", "--data", text}).code, 0) << "the model is kept";
}

TEST_F(Compare, OnlyTheSameComparisonIsGoneOnWith) {
  const Words words = command({tiny, attention}, steps);
  ASSERT_EQ(run(words).code, 0);
  expect_refused(run(words), "--resume");
  const Words resume = with(words, {"--resume"});
  const auto expect_another = [&](const Words& models, const Words& more, const std::string& named) {
    expect_refused(run(with(command(models, more), {"--resume"})), named);
  };
  expect_another({tiny, attention}, {"--steps", "7", "--long-context", "0"}, "\"steps\" 6, not 7");
  expect_another({tiny, attention}, with(steps, {"--learning-rate", "0.01"}), "learning_rate");
  expect_another({tiny, attention}, with(steps, {"--seed", "1"}), "seed");
  expect_another({tiny}, steps, "models");
  folder.write("tiny.json", R"({"architecture": "mamba", "d_model": 24, "n_layer": 1})");
  expect_refused(run(resume), "\"d_model\" of tiny 16, not 24");
  folder.write("tiny.json", kTinyMamba);
  std::string other = read_file(text);
  other[100] ^= 1;
  folder.write("text", other);
  expect_refused(run(resume), "data_hash");
  EXPECT_EQ(run(with(words, {"--overwrite"})).code, 0);
  folder.write("race/comparison.json", "[1, 2");
  expect_refused(run(resume), "comparison.json");
}

// A model that is there is not replaced unasked, and one that is compared never.
TEST_F(Compare, LearntModelsAreNotReplacedUnasked) {
  ASSERT_EQ(run({"live", "--model", tiny, "--in", text, "--save", race + "/tiny"}).code, 0);
  const std::string before = read_file(race + "/tiny/model.safetensors");
  for (const Words& more : {Words{}, Words{"--resume"}})
    expect_refused(run(with(command({tiny}, steps), more)), race + "/tiny");
  expect_refused(run(with(command({race + "/tiny"}, steps), {"--overwrite"})), "another folder");
  EXPECT_TRUE(read_file(race + "/tiny/model.safetensors") == before);
  EXPECT_TRUE(kept().is_null());
  EXPECT_EQ(run(with(command({tiny}, steps), {"--overwrite"})).code, 0);
}

TEST_F(Compare, WhatCannotBeWrittenIsKnownAtOnce) {
  // Training would never end.
  const Words endless{"--steps", "100000000"};
  expect_refused(run(command({tiny}, with(endless, {"--page", folder / "absent/page.html"}))), "absent");
  expect_refused(run(command({tiny}, with(endless, {"--page", folder / "."}))), "a folder");
  Words words = command({tiny}, endless);
  *std::find(words.begin(), words.end(), race) = text + "/race";
  expect_refused(run(words), text);
}

TEST_F(Compare, OneThatDivergesDoesNotStopTheOthers) {
  const std::string wild = folder / "wild", weights = wild + "/model.safetensors";
  ASSERT_EQ(run({"live", "--model", tiny, "--in", text, "--save", wild}).code, 0);
  std::string bytes = read_file(weights);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof(header));
  const float huge = 1e18f;  // sums of products of three such are infinite
  for (size_t at = sizeof(header) + header; at < bytes.size(); at += sizeof(huge))
    std::memcpy(bytes.data() + at, &huge, sizeof(huge));
  folder.write("wild/model.safetensors", bytes);

  const Words words = command({wild, tiny}, steps);
  const Result result = run(words);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("diverged at step 1"), std::string::npos) << result.out;
  EXPECT_EQ(status(0), "diverged");
  EXPECT_EQ(kept().at("models").at(0).at("diverged_at_step"), 1);
  EXPECT_EQ(status(1), "finished");
  EXPECT_EQ(run(with(words, {"--resume"})).out, result.out);
}

// The measuring would never end, so that it is surely what is interrupted.
TEST_F(Compare, TheMeasuringIsInterruptedAndGoneOnWith) {
  const Words endless{"--steps", "6", "--long-context", "1000000000000", "--json"};
  const auto measured = [&] {
    const auto document = kept();
    return document.is_null() ? 0 : document.at("models").at(0).at("contexts").size();
  };
  const Result result =
      interrupted_when(command({tiny, attention}, endless), [&] { return measured() == 2; });
  EXPECT_EQ(status(0), "trained");
  EXPECT_EQ(status(1), "waiting");
  EXPECT_NE(result.err.find("--resume"), std::string::npos) << result.err;
  const auto before = kept().at("models").at(0);
  EXPECT_TRUE(before.at("bits_per_byte").is_number());
  const std::string weights = read_file(race + "/tiny/model.safetensors");

  interrupted_when(with(command({tiny, attention}, endless), {"--resume"}), [] { return true; });
  EXPECT_EQ(kept().at("models").at(0), before);
  EXPECT_TRUE(read_file(race + "/tiny/model.safetensors") == weights) << "it was not trained again";
}

TEST_F(Compare, ATrainingIsInterruptedAndGoneOnWith) {
  const Words endless = command({tiny, attention}, {"--steps", "100000000", "--json"});
  int64_t steps_before = 0;
  for (const Words& words : {endless, with(endless, {"--resume"})}) {
    interrupted_when(words, [&] { return status(0) == "training"; });
    const auto steps_now = kept().at("models").at(0).at("steps").get<int64_t>();
    EXPECT_GE(steps_now, steps_before);
    EXPECT_EQ(run({"info", race + "/tiny", "--json"}).json().at("steps"), steps_now);
    steps_before = steps_now;
  }
}

TEST_F(Compare, TwoAtOnceInOneFolderAreRefused) {
  Process compare(command({tiny}, {"--steps", "100000000"}));
  seconds_until([&] { return status(0) == "training"; });
  expect_refused(run(command({tiny}, {"--steps", "100000000", "--resume"})), "another comparison");
  compare.kill(SIGINT);
  EXPECT_EQ(compare.wait().code, 130);
}

TEST_F(Compare, MeasuresSpeedsAlone) {
  const auto json = run({"compare", tiny, "--speed-only", "--contexts", "50", "50", "--long-context", "100",
                         "--measure", "0.01", "--page", folder / "page.html", "--json"})
                        .json();
  EXPECT_FALSE(json.at("conditions").at("trained").get<bool>());
  ASSERT_EQ(json["models"][0]["contexts"].size(), 2u);
  EXPECT_GT(json["models"][0]["contexts"][0]["decode_bytes_per_second"].get<double>(), 0);
  EXPECT_EQ(json["models"][0]["contexts"][1]["context"], 100);
}

}  // namespace
}  // namespace brood::test
