// pack and unpack as people run them.
#include "tests/cli/program.h"

namespace brood::test {
namespace {

class Packing : public testing::Test {
 protected:
  const Folder folder;
  const std::string plain = some_text(4000);
  const std::string text = folder.write("text", plain), tiny = folder.write("tiny.json", kTinyMamba);
  const std::string small = folder / "small", back = folder / "back";
};

TEST_F(Packing, ThereAndBackWithEveryKindOfModel) {
  const std::string trained = folder / "trained";
  ASSERT_EQ(run({"live", "--model", tiny, "--in", text, "--save", trained}).code, 0);
  for (const std::string& model : {std::string("none"), std::string("mamba-xs"), tiny, trained}) {
    const Result done = run({"pack", text, "-o", small, "--model", model, "--json", "--overwrite"});
    ASSERT_EQ(done.code, 0) << done.err;
    EXPECT_EQ(done.json().at("bytes"), 4000);
    EXPECT_EQ(done.json().at("packed_bytes"), read_file(small).size());
    EXPECT_LT(read_file(small).size(), 1500u) << model;
    std::vector<std::string> arguments = {"unpack", small, "-o", back, "--json", "--overwrite"};
    if (model == trained) arguments.insert(arguments.end(), {"--model", trained});
    const Result again = run(arguments);
    ASSERT_EQ(again.code, 0) << again.err;
    EXPECT_EQ(again.json().at("bytes"), 4000);
    EXPECT_TRUE(read_file(back) == plain) << model;
  }
  expect_refused(run({"unpack", small, "-o", folder / "other"}), "--model");
  expect_refused(run({"unpack", small, "-o", folder / "other", "--model", "mamba-xs"}), "another model");
}

TEST_F(Packing, ThroughPipesAndForAnyNumberOfThreads) {
  Surroundings from_text, from_small;
  from_text.input = text;
  const Result packed = run({"pack", "-", "-o", "-", "--threads", "1"}, from_text);
  ASSERT_EQ(packed.code, 0) << packed.err;
  ASSERT_EQ(run({"pack", text, "-o", small, "--threads", "2"}).code, 0);
  EXPECT_TRUE(packed.out == read_file(small));
  from_small.input = small;
  EXPECT_TRUE(run({"unpack", "-", "-o", "-", "--threads", "3"}, from_small).out == plain);
}

TEST_F(Packing, RefusesAndLeavesNothing) {
  ASSERT_EQ(run({"pack", text, "-o", small}).code, 0);
  const std::string whole = read_file(small);
  expect_refused(run({"pack", text, "-o", small}), "--overwrite");
  expect_refused(run({"unpack", text, "-o", back}), "no packed file");
  // On a slow machine these two have shown progress before they see it.
  const auto expect_refused_late = [&](const std::string& path, const char* why) {
    const auto result = run({"unpack", path, "-o", back});
    EXPECT_EQ(result.code, 2);
    EXPECT_NE(result.err.find(why), std::string::npos) << result.err;
  };
  expect_refused_late(folder.write("cut", whole.substr(0, whole.size() / 2)), "cut short");
  std::string damaged = whole;
  damaged[damaged.size() / 2] ^= 4;
  expect_refused_late(folder.write("damaged", damaged), "damaged");
  expect_refused(run({"pack", text, "-o", "-", "--json"}), "--json");
  expect_refused(run({"pack", folder / "absent", "-o", back}), "absent");
  expect_refused(run({"pack", text, "-o", folder / "no/such"}), "no/such");
  EXPECT_FALSE(std::filesystem::exists(back));
}

TEST_F(Packing, AnEmptyFileIsAFile) {
  const std::string empty = folder.write("empty", "");
  ASSERT_EQ(run({"pack", empty, "-o", small}).code, 0);
  ASSERT_EQ(run({"unpack", small, "-o", back}).code, 0);
  EXPECT_TRUE(std::filesystem::exists(back));
  EXPECT_EQ(read_file(back), "");
}

}  // namespace
}  // namespace brood::test
