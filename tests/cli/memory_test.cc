// brood live with a memory, and talking to what lived with one.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/cli/program.h"

namespace brood::test {
namespace {

const std::string kFacts =
    "the door code -> 7fQx2LmP9aWz4TrK\n"
    "the dog's name -> uv8Yc3NnB1sGh6Jd\n"
    "the flight -> eR5tZ0oXk2VwM7qA\n";

class MemoryVerbs : public ::testing::Test {
 protected:
  Result live(const std::string& save, const std::vector<std::string>& more) {
    std::vector<std::string> words{"live", "--in", text_, "--save", save, "--rehearsals", "0", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  std::string said(const std::string& model, const std::vector<std::string>& more) {
    std::vector<std::string> words{"talk", model, "-n", "16", "--temperature", "0"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words).out;
  }

  Folder folder_;
  std::string tiny_ = folder_.write("tiny.json", kTinyMamba);
  std::string text_ = folder_.write("text", some_text(3000) + "\n" + kFacts + some_text(3000) + "\n");
};

TEST_F(MemoryVerbs, WhatWasSeenOnceIsSaid) {
  const std::string model = folder_ / "m";
  const auto lived = live(model, {"--model", tiny_, "--memory", "1"}).json();
  EXPECT_LT(lived["bits_per_byte"], 0.9 * lived["network_bits_per_byte"].get<double>());
  for (size_t at = 0; at < kFacts.size(); at = kFacts.find('\n', at) + 1) {
    const size_t value = kFacts.find(" -> ", at) + 4;
    const std::string question = kFacts.substr(at, value - at);
    EXPECT_EQ(said(model, {"--prompt", question}), kFacts.substr(value, 16) + "\n");
    EXPECT_EQ(said(model, {"--prompt", question, "--fresh"}), kFacts.substr(value, 16) + "\n");
    EXPECT_NE(said(model, {"--prompt", question, "--network-alone"}), kFacts.substr(value, 16) + "\n");
  }
  // It goes on with the same memory, and asking has changed nothing.
  const auto known = run({"eval", model, "--data", text_, "--live", "--json"}).json();
  EXPECT_LT(known["bits_per_byte"], 0.5);
  EXPECT_GT(known["network_bits_per_byte"], 1.0);
  EXPECT_EQ(run({"eval", model, "--data", text_, "--live", "--json"}).json()["bits_per_byte"],
            known["bits_per_byte"]);
  const auto alone = run({"eval", model, "--data", text_, "--live", "--memory", "0", "--json"}).json();
  EXPECT_EQ(alone["bits_per_byte"], known["network_bits_per_byte"]);
  expect_refused(live(model, {"--model", model, "--memory", "2"}), "--memory 2");
  expect_refused(live(model, {"--model", model, "--memory", "0"}), "--memory 0");
  EXPECT_TRUE(std::filesystem::exists(std::filesystem::path(model) / "memory.safetensors"));
  EXPECT_EQ(live(model, {"--model", model}).code, 0);
}

// A question stands on a line of its own; nothing asked goes on where the stream broke off.
TEST_F(MemoryVerbs, AStreamMayEndInTheMidstOfALine) {
  text_ =
      folder_.write("text", some_text(3000) + "\n" + kFacts + some_text(3000) + "\n" + kFacts.substr(0, 21));
  const std::string model = folder_ / "m";
  ASSERT_EQ(live(model, {"--model", tiny_, "--memory", "1"}).code, 0);
  EXPECT_EQ(said(model, {"--prompt", "the flight -> "}), "eR5tZ0oXk2VwM7qA\n");
  EXPECT_EQ(said(model, {"--prompt", ""}).substr(0, 13), kFacts.substr(21, 13));
}

TEST_F(MemoryVerbs, WithoutItNothingIsAsItWereNot) {
  const auto with = live(folder_ / "with", {"--model", tiny_, "--memory", "1"}).json();
  const auto without = live(folder_ / "without", {"--model", tiny_, "--memory", "0"}).json();
  EXPECT_EQ(without["bits_per_byte"], with["network_bits_per_byte"]);
  EXPECT_EQ(without["bits_per_byte"], without["network_bits_per_byte"]);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "with/memory.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "without/memory.safetensors"));
}

TEST_F(MemoryVerbs, WeightsCanBeFixed) {
  ASSERT_EQ(live(folder_ / "m", {"--model", tiny_, "--memory", "0"}).code, 0);
  const auto frozen =
      live(folder_ / "n", {"--model", folder_ / "m", "--memory", "0", "--fixed-weights"}).json();
  const auto learning =
      live(folder_ / "n", {"--model", folder_ / "m", "--memory", "0", "--overwrite"}).json();
  const auto remembering =
      live(folder_ / "n", {"--model", folder_ / "m", "--memory", "1", "--fixed-weights", "--overwrite"})
          .json();
  EXPECT_LT(learning["bits_per_byte"], frozen["bits_per_byte"]);
  EXPECT_EQ(remembering["network_bits_per_byte"], frozen["bits_per_byte"]);
  EXPECT_LT(remembering["bits_per_byte"], frozen["bits_per_byte"]);
}

TEST_F(MemoryVerbs, RefusesMemoriesThatCannotBe) {
  expect_refused(live(folder_ / "m", {"--model", tiny_, "--memory", "3"}), "power of two");
  expect_refused(live(folder_ / "m", {"--model", tiny_, "--memory", "-1"}), "--memory");
  ASSERT_EQ(live(folder_ / "m", {"--model", tiny_, "--memory", "1"}).code, 0);
  ASSERT_EQ(live(folder_ / "other", {"--model", tiny_, "--memory", "1"}).code, 0);
  std::filesystem::copy_file(folder_ / "other/memory.safetensors", folder_ / "m/memory.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  expect_refused(run({"talk", folder_ / "m", "--prompt", "a"}), "memory.safetensors");
}

}  // namespace
}  // namespace brood::test
