// A series that is killed, damaged or moved on from: what is learnt, said and counted is what an undisturbed run leaves, to
// the bit.
#include <cmath>
#include <random>

#include "brood/learn/series_folder.h"
#include "tests/cli/program.h"

namespace brood::test {
namespace {

namespace fs = std::filesystem;

std::string rows(int begin, int end) {
  std::string text;
  for (int t = begin; t < end; ++t) {
    text += std::to_string(1000000 + t * 60) + "," + std::to_string(std::sin(t / 5.0) + t % 7) + ",";
    text += t % 97 == 0 ? "oops\n" : t % 89 == 0 ? "\n" : std::to_string(t % 3) + "\n";
  }
  return text;
}

// What it reports, without what the clock and the machine decide.
nlohmann::json figures(const Result& result) {
  nlohmann::json json = result.json();
  if (!json.is_object()) return json;
  for (const char* key : {"seconds", "rows_per_second", "peak_memory_bytes"}) json.erase(key);
  return json;
}

int64_t taken(const std::string& folder) {
  return run({"info", folder, "--json"}).json().at("stream").at("taken").get<int64_t>();
}

class SeriesExactlyOnce : public testing::Test {
 protected:
  // All runs lie under one name while they run: the save knows where its outputs are.
  std::vector<std::string> live(const std::string& in, const std::vector<std::string>& more = {}) const {
    fs::create_directory(folder / "run");
    std::vector<std::string> words{"live",
                                   "--as",
                                   "series",
                                   "--in",
                                   in,
                                   "--lags",
                                   "4",
                                   "--horizon",
                                   "2",
                                   "--time",
                                   "t",
                                   "--save",
                                   folder / "run/kept",
                                   "--out",
                                   folder / "run/said.csv",
                                   "--rejects",
                                   folder / "run/rejects.csv",
                                   "--page",
                                   folder / "run/page.html",
                                   "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void keep_as(const std::string& name) const { fs::rename(folder / "run", folder / name); }
  void expect_same(const std::string& one, const std::string& other) const {
    for (const char* file : {"/said.csv", "/rejects.csv"})
      EXPECT_TRUE(read_file((folder / one) + file) == read_file((folder / other) + file)) << file;
    EXPECT_TRUE(learnt(one) == learnt(other)) << one << " and " << other;
  }
  // All that is saved, but for the journal's name, which is drawn at random.
  std::vector<std::byte> learnt(const std::string& name) const {
    KeptSeries kept = read_series(series_file((folder / name) + "/kept"));
    kept.stream->journal = 0;
    return series_bytes(kept);
  }

  const Folder folder;
  const std::string text = "t,a,b\n" + rows(1, 12000);
  const std::string table = folder.write("table.csv", text);
};

TEST_F(SeriesExactlyOnce, KilledAtRandomMomentsOfAFile) {
  const auto begin = std::chrono::steady_clock::now();
  const Result undisturbed = run(live(table));
  ASSERT_EQ(undisturbed.code, 0) << undisturbed.err;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  keep_as("whole");
  std::mt19937 random(1);
  std::uniform_real_distribution<double> wait(0, seconds.count() / 2);
  const auto command = live(table, {"--save-every", "0.01"});
  for (int i = 0; i < 8; ++i) {
    Process process(command);
    std::this_thread::sleep_for(std::chrono::duration<double>(wait(random)));
    process.kill(i % 3 == 2 ? SIGTERM : SIGKILL);
    process.wait();
  }
  for (int i = 0; i < 2; ++i) {  // once more: it is finished, and says the same
    const Result last = run(command);
    ASSERT_EQ(last.code, 0) << last.err;
    EXPECT_EQ(figures(last), figures(undisturbed));
  }
  keep_as("killed");
  expect_same("whole", "killed");
}

// A producer that goes on after the bytes that were taken.
TEST_F(SeriesExactlyOnce, KilledAtRandomMomentsOfAPipe) {
  std::mt19937 random(2);
  const auto sent_all = [&](const std::vector<std::string>& command, bool kills) {
    size_t sent = 0;
    for (int i = 0;; ++i) {
      int ends[2];
      EXPECT_EQ(::pipe(ends), 0);
      Surroundings around;
      around.input_pipe = ends[0];
      Process process(command, around);
      ::close(ends[0]);
      const size_t until = !kills || i > 6 ? text.size() : std::min(text.size(), sent + random() % 80000);
      while (sent < until) {
        const size_t piece = kills ? 1 + random() % 20000 : text.size();
        const ssize_t n = ::write(ends[1], text.data() + sent, std::min(until - sent, piece));
        if (n <= 0) break;
        sent += size_t(n);
      }
      if (until == text.size()) {
        ::close(ends[1]);
        return process.wait();
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 60));
      process.kill(SIGKILL);
      process.wait();
      ::close(ends[1]);
      sent = holds_series(folder / "run/kept") ? size_t(taken(folder / "run/kept")) : 0;
    }
  };
  const Result undisturbed = sent_all(live("-"), false);
  ASSERT_EQ(undisturbed.code, 0) << undisturbed.err;
  keep_as("whole");
  const Result last = sent_all(live("-", {"--save-every", "0.01", "--sync-every", "0.01"}), true);
  ASSERT_EQ(last.code, 0) << last.err;
  EXPECT_EQ(figures(last), figures(undisturbed));
  keep_as("killed");
  expect_same("whole", "killed");
}

// The journal's end is cut off, or a bit of it turned over: what lies before is there, and the rest is sent again.
TEST_F(SeriesExactlyOnce, ADamagedJournalEndsEarlier) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  Surroundings around;
  around.input_pipe = ends[0];
  Process process(live("-", {"--save-every", "1000"}), around);
  const std::string segment = folder / "run/kept/journal/00000001.journal";
  for (size_t at = 0; at < 180000; at += 3000) ASSERT_EQ(::write(ends[1], text.data() + at, 3000), 3000);
  seconds_until([&] {
    std::error_code none;
    return fs::exists(segment) && fs::file_size(segment, none) > 180000;
  });
  process.kill(SIGKILL);
  process.wait();
  ::close(ends[0]);
  ::close(ends[1]);
  std::string stored = read_file(segment);
  stored[stored.size() - 2000] ^= 1;
  folder.write("run/kept/journal/00000001.journal", stored);
  const int64_t until = taken(folder / "run/kept");
  EXPECT_GT(until, 100000);
  EXPECT_LT(until, 180000);
  Surroundings rest;
  rest.input = folder.write("rest", text.substr(size_t(until)));
  const Result none = run(live("-"), rest);  // a file at standard input is none of what the pipe brought
  EXPECT_EQ(none.code, 2) << none.err;
  ASSERT_EQ(::pipe(ends), 0);
  around.input_pipe = ends[0];
  Process last(live("-"), around);
  ::close(ends[0]);
  const std::string left = text.substr(size_t(until));
  for (size_t at = 0; at < left.size();) {
    const ssize_t n = ::write(ends[1], left.data() + at, left.size() - at);
    if (n <= 0) break;
    at += size_t(n);
  }
  ::close(ends[1]);
  const Result result = last.wait();
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("damaged"), std::string::npos) << result.err;
  keep_as("damaged");
  ASSERT_EQ(run(live(table)).code, 0);
  keep_as("whole");
  EXPECT_TRUE(read_file(folder / "whole/said.csv") == read_file(folder / "damaged/said.csv"));
}

TEST_F(SeriesExactlyOnce, AFileThatGrewOrChanged) {
  const std::string log = folder.write("log.csv", "t,a,b\n" + rows(1, 500));
  ASSERT_EQ(run(live(log)).code, 0);
  folder.write("log.csv", "t,a,b\n" + rows(1, 800));
  const Result grown = run(live(log));
  ASSERT_EQ(grown.code, 0) << grown.err;
  EXPECT_EQ(grown.json().at("rows").get<int>() + grown.json().at("rejected_rows").get<int>(), 300);
  const std::string said = read_file(folder / "run/said.csv");
  folder.write("log.csv", "t,a,b\n" + rows(2, 800));
  expect_refused(run(live(log)), "--again");
  keep_as("grown");
  folder.write("log.csv", "t,a,b\n" + rows(1, 800));
  ASSERT_EQ(run(live(log)).code, 0);
  EXPECT_TRUE(said == read_file(folder / "run/said.csv"));
}

// Another table is begun before a row of it has come, more than once.
TEST_F(SeriesExactlyOnce, ATableThatIsStillEmptyIsGoneOnWith) {
  const std::string kept = folder / "run/kept", next = folder.write("next.csv", "t,a,b\n");
  ASSERT_EQ(run(live(folder.write("log.csv", "t,a,b\n" + rows(1, 300)))).code, 0);
  const std::vector<std::string> on{"live",    "--as", "series", "--in", next,
                                    "--model", kept,   "--save", kept,   "--json"};
  for (int i = 0; i < 2; ++i) {
    const Result empty = run(on);
    EXPECT_EQ(empty.code, 0) << empty.err;
  }
  folder.write("next.csv", "t,a,b\n" + rows(300, 400));
  const nlohmann::json json = run(on).json();
  EXPECT_EQ(json.at("rows").get<int>() + json.at("rejected_rows").get<int>(), 100);
}

// What a pipe brought before the kill is learnt before another source is begun.
TEST_F(SeriesExactlyOnce, APipeIsLearntToItsEndBeforeAnotherSource) {
  const std::string next = folder.write("next.csv", "t,a,b\n" + rows(5000, 5300)), kept = folder / "run/kept";
  const auto bring = [&](const std::string& table_text, bool kill) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    Surroundings around;
    around.input_pipe = ends[0];
    Process process(live("-", {"--save-every", "1000"}), around);
    ::close(ends[0]);
    for (size_t at = 0; at < table_text.size();) {
      const ssize_t n = ::write(ends[1], table_text.data() + at, table_text.size() - at);
      if (n <= 0) break;
      at += size_t(n);
    }
    if (kill) {
      seconds_until([&] { return taken(kept) == int64_t(table_text.size()); });
      process.kill(SIGKILL);
    }
    ::close(ends[1]);
    process.wait();
  };
  const auto learnt_rows = [&](bool killed) {
    bring("t,a,b\n" + rows(1, 100), false);  // a save that knows the columns
    bring("t,a,b\n" + rows(100, 4000), killed);
    const Result on =
        run({"live", "--as", "series", "--in", next, "--model", kept, "--save", kept, "--json"});
    EXPECT_EQ(on.code, 0) << on.err;
    EXPECT_EQ(on.json().at("rows").get<int>() + on.json().at("rejected_rows").get<int>(), 300);
    keep_as(killed ? "killed" : "whole");
    return run({"info", folder / (killed ? "killed/kept" : "whole/kept"), "--json"})
        .json()
        .at("rows")
        .get<int>();
  };
  const int whole = learnt_rows(false);
  EXPECT_GT(whole, 4000);
  EXPECT_EQ(learnt_rows(true), whole);
}

TEST_F(SeriesExactlyOnce, OtherRunsAreRefused) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  Surroundings around;
  around.input_pipe = ends[0];
  {
    Process first(live("-", {"--save-every", "0.1"}), around);
    seconds_until([&] { return holds_series(folder / "run/kept"); });
    expect_refused(run(live("-")), "another process");
    ASSERT_EQ(::write(ends[1], text.data(), 1000), 1000);  // and nothing more: it is saved all the same
    seconds_until([&] { return read_series(series_file(folder / "run/kept")).rows() > 20; });
  }
  ::close(ends[0]);
  ::close(ends[1]);
  keep_as("first");
  ASSERT_EQ(run(live(table)).code, 0);
  expect_refused(run(live(table, {"--season", "7"})), "--overwrite");
  const std::string tiny = folder.write("tiny.json", kTinyMamba),
                    words = folder.write("text", some_text(3000));
  expect_refused(run({"live", "--model", tiny, "--in", words, "--save", folder / "run/kept"}),
                 "holds a series");
  expect_refused(run({"live", "--model", folder / "run/kept", "--in", words}), "--as series");
  ASSERT_EQ(run({"live", "--model", tiny, "--in", words, "--save", folder / "bytes"}).code, 0);
  expect_refused(run({"live", "--as", "series", "--in", table, "--save", folder / "bytes"}),
                 "model of bytes");
  expect_refused(run({"live", "--as", "series", "--in", table, "--model", folder / "bytes"}),
                 "model of bytes");
}

}  // namespace
}  // namespace brood::test
