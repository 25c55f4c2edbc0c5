// brood merge: two folders become one that can be read, talked to and taught.
#include "tests/cli/program.h"

namespace brood::test {
namespace {

TEST(MergeVerb, MakesOneModelOfTwo) {
  const Folder folder;
  const std::string text = folder.write("text", some_text(1500)), bdh = folder.write("bdh.json", kTinyBdh);
  const std::string a = folder / "a", b = folder / "b", both = folder / "both", mean = folder / "mean";
  for (const auto& [model, seed] : {std::pair(a, "1"), std::pair(b, "2")})
    ASSERT_EQ(run({"live", "--model", bdh, "--in", text, "--seed", seed, "--save", model}).code, 0);
  const Result merged = run({"merge", a, b, "--save", both, "--json"});
  ASSERT_EQ(merged.code, 0) << merged.err;
  EXPECT_EQ(merged.json().at("config").at("n_neuron"), 128);
  EXPECT_EQ(merged.json().at("config").at("parts"), nlohmann::json::array({32, 32}));
  EXPECT_EQ(run({"merge", a, b, "--average", "--weights", "3", "1", "--save", mean}).code, 0);
  const int64_t one = run({"info", a, "--json"}).json().at("parameters");
  EXPECT_EQ(run({"info", mean, "--json"}).json().at("parameters"), one);
  EXPECT_EQ(run({"info", both, "--json"}).json().at("parameters"), one + 3 * 64 * 16);
  EXPECT_EQ(run({"live", "--model", both, "--in", text, "--save", both}).code, 0) << "and learns on";

  expect_refused(run({"merge", a, b, "--save", both}), "--overwrite");
  expect_refused(run({"merge", a, "--save", folder / "c"}), "two or more");
  expect_refused(run({"merge", a, both, "--average", "--save", folder / "c"}), "n_neuron");
  const std::string mamba = folder.write("tiny.json", kTinyMamba);
  expect_refused(run({"merge", mamba, mamba, "--save", folder / "c"}), "--average");
  expect_refused(run({"merge", a, b, "--weights", "1", "0", "--save", folder / "c"}), "--weights");
}

}  // namespace
}  // namespace brood::test
