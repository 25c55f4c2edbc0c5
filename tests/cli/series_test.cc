// brood live --as series, as people run it.
#include <cmath>

#include "tests/cli/program.h"

namespace brood::test {
namespace {

std::string waves(int begin, int end) {
  std::string text = "when,a,b\n";
  for (int t = begin; t < end; ++t)
    text += std::to_string(1e9 + t * 60) + "," + std::to_string(std::sin(t / 5.0) + t % 7) + "," +
            std::to_string(t % 3) + "\n";
  return text;
}

std::string without_header(const std::string& text) { return text.substr(text.find('\n') + 1); }

TEST(LiveSeries, SaysSomethingOfEveryRow) {
  const Folder folder;
  const std::string table = folder.write("table.csv", waves(0, 400) + "broken,1\n");
  const Result all = run({"live", "--as", "series", "--in", table, "--time", "when", "--horizon", "4",
                          "--season", "21", "--out", folder / "said.csv", "--page", folder / "page.html",
                          "--rejects", folder / "rejects.csv", "--json"});
  ASSERT_EQ(all.code, 0) << all.err;
  const nlohmann::json json = all.json();
  EXPECT_EQ(json["rows"], 400);
  EXPECT_EQ(json["rejected_rows"], 1);
  for (const auto& column : json["columns"])
    EXPECT_LT(column["mse"], 0.7 * column["repeat_last"]["mse"].get<double>());
  const std::string said = read_file(folder / "said.csv"), page = read_file(folder / "page.html");
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 401);
  EXPECT_EQ(said.substr(0, said.find('\n')),
            "time,a,a.expected,a.low,a.high,a.surprise,a.anomaly,a.forecast,a.alarm,"
            "b,b.expected,b.low,b.high,b.surprise,b.anomaly,b.forecast,b.alarm");
  EXPECT_NE(page.find("<svg"), std::string::npos);
  EXPECT_EQ(page.find("http"), std::string::npos);  // it fetches nothing
  EXPECT_EQ(read_file(folder / "rejects.csv"),
            "line,reason,row\n402,2 fields where the header has 3,\"broken,1\"\n");
}

TEST(LiveSeries, GoesOnWhereItStopped) {
  const Folder folder;
  const std::string whole = folder.write("whole.csv", waves(0, 300)),
                    first = folder.write("first.csv", waves(0, 120)),
                    rest = folder.write("rest.csv", waves(120, 300));
  const auto live = [&](std::vector<std::string> arguments) {
    std::vector<std::string> words = {"live", "--as", "series", "--time", "when", "--horizon", "3"};
    if (arguments[0] == "--model") words = {"live", "--as", "series"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    const Result result = run(words);
    EXPECT_EQ(result.code, 0) << result.err;
  };
  live({"--in", whole, "--out", folder / "whole.out"});
  live({"--in", first, "--out", folder / "first.out", "--save", folder / "kept"});
  live({"--model", folder / "kept", "--in", rest, "--out", folder / "rest.out", "--save", folder / "kept"});
  EXPECT_EQ(read_file(folder / "first.out") + without_header(read_file(folder / "rest.out")),
            read_file(folder / "whole.out"));
}

TEST(LiveSeries, JsonLinesAndClasses) {
  const Folder folder;
  std::string rows;
  for (int t = 0; t < 300; ++t)
    rows += "{\"t\":" + std::to_string(t) + ",\"x\":" + std::to_string(std::sin(t)) + ",\"sign\":\"" +
            (std::sin(t) > 0 ? "up" : "down") + "\"}\n";
  const std::string table = folder.write("rows.jsonl", rows);
  const Result all =
      run({"live", "--as", "series", "--in", table, "--columns", "x", "--time", "t", "--label", "sign",
           "--delay", "5", "--warm-up", "100", "--out", folder / "said.jsonl", "--json"});
  ASSERT_EQ(all.code, 0) << all.err;
  EXPECT_GT(all.json()["accuracy"], 0.95);
  const std::string said = read_file(folder / "said.jsonl");
  const auto last = nlohmann::json::parse(said.substr(said.rfind('\n', said.size() - 2) + 1));
  EXPECT_EQ(last["predicted"], last["label"]);
}

TEST(LiveSeries, Mistakes) {
  const Folder folder;
  const std::string table = folder.write("table.csv", waves(0, 30));
  const auto refused = [](const std::vector<std::string>& arguments, const std::string& names) {
    const Result result = run(arguments);
    EXPECT_EQ(result.code, 2) << result.err;
    EXPECT_NE(result.err.find(names), std::string::npos) << result.err;
  };
  refused({"live", "--in", table}, "--model");
  refused({"live", "--model", "mamba-s", "--horizon", "3", "--in", table}, "--horizon goes with --as series");
  refused({"live", "--as", "series", "--in", table, "--columns", "c"}, "no column c; it has when, a, b");
  refused({"live", "--as", "series", "--in", table, "--horizon", "0"}, "whole number");
  refused({"live", "--as", "series", "--in", table, "--out", "-", "--json"}, "standard output");
  EXPECT_EQ(run({"live", "--as", "series", "--in", table, "--save", folder / "kept"}).code, 0);
  refused({"live", "--as", "series", "--in", table, "--lags", "3", "--save", folder / "kept"},
          "already holds a series");
  refused({"live", "--as", "series", "--model", folder / "kept", "--in", table, "--horizon", "3"},
          "begun with");
  refused({"live", "--as", "series", "--model", folder / "absent", "--in", table}, "absent");
}

// What is there is not overwritten: not the input, not each other, not what somebody else has written.
TEST(LiveSeries, OutputsOverwriteNothing) {
  const Folder folder;
  const std::string rows = waves(0, 30), table = folder.write("table.csv", rows),
                    there = folder.write("there", "mine");
  std::filesystem::create_hard_link(table, folder / "link.csv");
  const auto live = [&](std::vector<std::string> more) {
    std::vector<std::string> words{"live", "--as", "series", "--in", table};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  for (const char* option : {"--out", "--rejects", "--page"}) {
    expect_refused(run(live({option, table})), "what --in reads");
    expect_refused(run(live({option, folder / "link.csv"})), "what --in reads");
    expect_refused(run(live({option, there})), "is there already");
    expect_refused(run(live({option, there, "--save", folder / "kept"})), "is there already");
  }
  expect_refused(run(live({"--out", folder / "a", "--page", folder / "a"})), "a file of its own");
  expect_refused(run(live({"--save", folder / "kept", "--out", folder / "kept/series.brood"})),
                 "--save keeps");
  expect_refused(run(live({"--page", "-"})), "name a file");
  expect_refused(run(live({"--rejects", "-", "--json"})), "standard output");
  Surroundings around;
  around.input = table;
  expect_refused(run({"live", "--as", "series", "--out", table}, around), "what --in reads");
  EXPECT_EQ(read_file(table), rows);
  EXPECT_EQ(read_file(there), "mine");
  EXPECT_EQ(run(live({"--out", there, "--overwrite"})).code, 0);
  EXPECT_NE(read_file(there), "mine");
}

TEST(LiveSeries, OptionsThatDoNothingAreRefused) {
  const Folder folder;
  const std::string table = folder.write("table.csv", waves(0, 30));
  const auto refused = [&](std::vector<std::string> more, const std::string& named) {
    std::vector<std::string> words{"live", "--as", "series", "--in", table};
    words.insert(words.end(), more.begin(), more.end());
    expect_refused(run(words), named);
  };
  refused({"--chunk", "3"}, "--chunk is for streams of bytes");
  refused({"--fixed-weights"}, "--fixed-weights is for streams of bytes");
  refused({"--memory", "3"}, "--memory is for streams of bytes");
  refused({"--rollbacks", "3"}, "--rollbacks is for streams of bytes");
  refused({"--delay", "3"}, "--delay goes with --label");
  refused({"--label", "b", "--horizon", "3"}, "--horizon is about forecasts");
  refused({"--label", "b", "--coverage", "0.5"}, "--coverage is about forecasts");
  refused({"--label", "b", "--alarm", "0.5"}, "--alarm is about forecasts");
  refused({"--label", "b", "--page", folder / "page"}, "--page is about forecasts");
  refused({"--model", "mamba-s"}, "leave --model out");
}

// Nobody reads what is written: all is saved that was learnt, and it goes on from there.
TEST(LiveSeries, AClosedPipeLosesNothing) {
  const Folder folder;
  const std::string table = folder.write("table.csv", waves(0, 20000));
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  Surroundings around;
  around.output_pipe = ends[1];
  const std::vector<std::string> command{"live", "--as",  "series", "--lags", "4",           "--in",
                                         table,  "--out", "-",      "--save", folder / "a/b"};
  EXPECT_EQ(run(command, around).code, 0);
  ::close(ends[1]);
  const auto saved = run({"info", folder / "a/b", "--json"}).json();
  EXPECT_GT(saved.at("rows"), 0);
  EXPECT_EQ(saved.at("columns"), nlohmann::json({"when", "a", "b"}));
  EXPECT_EQ(run(command).code, 0);
  EXPECT_EQ(run({"info", folder / "a/b", "--json"}).json().at("rows"), 20000);
}

TEST(LiveSeries, SaysWhatItCannotUse) {
  const Folder folder;
  const auto live = [&](const std::string& table, std::vector<std::string> more = {}) {
    std::vector<std::string> words{"live", "--as", "series", "--in", folder.write("table", table)};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const auto says = [](const Result& result, const std::string& what) {
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.err.find(what), std::string::npos) << result.err;
  };
  says(live("a,kind\n1,x\n2,y\n"), "columns taken as numbers: a; left out: kind (begins with x)");
  says(live("t;a\n1;1,5\n2;2,5\n"), "1,5 is read as 1.5");
  says(live("t,a\n1,1\n2,2\n2,3\n1,4\n5,5\n", {"--time", "t"}), "2 rows not later than the row before");
  says(live("a\n1\n"), "1 row in");
  says(live("a\n1\n2\n3\n", {"--horizon", "5"}), "no forecast 5 rows ahead was scored");
  expect_refused(live("a,b,a\n1,2,3\n"), "two columns a");
  const Result rejected = live("a\n1 2\n3 4\n", {"--columns", "a"});
  EXPECT_EQ(rejected.code, 2);
  EXPECT_NE(rejected.err.find("all 2 rows"), std::string::npos) << rejected.err;
  EXPECT_NE(rejected.err.find("1 2 is not a number"), std::string::npos) << rejected.err;
}

TEST(LiveSeries, AnEmptyStreamIsNoMistake) {
  const Folder folder;
  for (const char* text : {"", "a,b\n"}) {
    const Result result = run({"live", "--as", "series", "--in", folder.write("empty.csv", text), "--out",
                               folder / "out", "--json"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.json()["rows"], 0);
  }
}

}  // namespace
}  // namespace brood::test
