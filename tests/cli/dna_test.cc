// brood live --as dna, as people run it.
#include "tests/cli/program.h"

namespace brood::test {
namespace {

std::string bases(size_t n, uint32_t seed) {
  std::string text;
  for (size_t i = 0; i < n; ++i) {
    seed = seed * 1664525 + 1013904223;
    text += "ACGT"[seed >> 30];
    if (i % 60 == 59) text += '\n';
  }
  return text + "\n";
}

std::string file_of(const std::string& sequence) { return ">one\n" + sequence + ">two\nNN\n" + sequence; }

TEST(LiveDna, LearnsSavesAndGoesOn) {
  const Folder folder;
  const std::string first = bases(3000, 1), genome = folder.write("genome.fa", file_of(first));
  const Result all =
      run({"live", "--as", "dna", "--in", genome, "--memory", "2", "--window", "500", "--out",
           folder / "windows.csv", "--page", folder / "page.html", "--save", folder / "learnt", "--json"});
  ASSERT_EQ(all.code, 0) << all.err;
  const nlohmann::json json = all.json();
  EXPECT_EQ(json["bases"], 6000);
  EXPECT_EQ(json["unknown"], 2);
  EXPECT_EQ(json["sequences"], 2);
  EXPECT_LT(json["bits_per_base"], 1.2);  // the second is known
  EXPECT_GT(json["bits_per_base"], 0.99);
  const std::string windows = read_file(folder / "windows.csv");
  EXPECT_EQ(std::count(windows.begin(), windows.end(), '\n'), 13);
  EXPECT_NE(windows.find("one,2500,3000,"), std::string::npos) << windows;
  EXPECT_NE(windows.find("two,2,502,"), std::string::npos) << windows;
  EXPECT_NE(read_file(folder / "page.html").find("<svg"), std::string::npos);

  const std::string more = folder.write("more.fa", first);
  const auto known =
      run({"live", "--as", "dna", "--in", more, "--model", folder / "learnt", "--json"}).json();
  EXPECT_LT(known["bits_per_base"], 0.1);
  EXPECT_EQ(
      run({"live", "--as", "dna", "--in", more, "--model", folder / "learnt", "--save", folder / "learnt"})
          .code,
      0);
  EXPECT_EQ(run({"live", "--as", "dna", "--in", "/dev/null", "--memory", "2", "--json"}).json()["bases"], 0);
}

TEST(LiveDna, FoldersOfOtherStreamsStayAsTheyAre) {
  const Folder folder;
  const std::string genome = folder.write("genome.fa", file_of(bases(300, 2))),
                    text = folder.write("text", "some text");
  const std::string tiny = folder.write("tiny.json", kTinyMamba),
                    table = folder.write("table.csv", "a\n1\n2\n");
  ASSERT_EQ(run({"live", "--as", "dna", "--in", genome, "--memory", "2", "--save", folder / "dna"}).code, 0);
  ASSERT_EQ(run({"live", "--model", tiny, "--in", text, "--memory", "0", "--save", folder / "model"}).code,
            0);
  expect_refused(run({"live", "--as", "dna", "--in", genome, "--memory", "2", "--save", folder / "model"}),
                 "model of bytes");
  expect_refused(run({"live", "--model", tiny, "--in", text, "--memory", "0", "--save", folder / "dna"}),
                 "DNA");
  expect_refused(run({"live", "--as", "series", "--in", table, "--save", folder / "dna"}), "DNA");
  EXPECT_EQ(run({"info", folder / "dna", "--json"}).json()["bases"], 600);
}

TEST(LiveDna, Mistakes) {
  const Folder folder;
  const std::string genome = folder.write("genome.fa", file_of(bases(300, 2)));
  expect_refused(run({"live", "--as", "dna", "--in", folder.write("table.csv", "a,b\n1,2\n")}), "line 1");
  expect_refused(run({"live", "--as", "dna", "--in", genome, "--memory", "3"}), "power of two");
  expect_refused(run({"live", "--as", "dna", "--in", genome, "--model", folder / "none"}), "none");
  expect_refused(run({"live", "--as", "dna", "--in", genome, "--horizon", "4"}), "--horizon");
  ASSERT_EQ(run({"live", "--as", "dna", "--in", genome, "--memory", "2", "--save", folder / "m"}).code, 0);
  expect_refused(run({"live", "--as", "dna", "--in", genome, "--save", folder / "m"}), "already holds");
}

}  // namespace
}  // namespace brood::test
