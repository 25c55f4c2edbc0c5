// A stream that is killed, starved, damaged or moved on from: what is learnt is what an undisturbed one learns, to the bit.
#include <fmt/format.h>

#include <random>
#include <sstream>

#include "tests/cli/program.h"

namespace brood::test {
namespace {

namespace fs = std::filesystem;

// The text without what stands between each `begin` and the next quotation mark.
std::string without(std::string text, std::string_view begin) {
  for (size_t at = 0; (at = text.find(begin, at)) != std::string::npos;) {
    at += begin.size();
    text.erase(at, text.find('"', at) - at);
  }
  return text;
}

// All that a folder holds of a stream, without the two names that are drawn at random.
std::string learnt(const std::string& folder) {
  std::string all;
  for (const char* file : {"config.json", "model.safetensors", "state.safetensors", "optimizer.safetensors",
                           "memory.safetensors", "rehearsal.safetensors"})
    if (fs::exists(folder + "/" + file)) all += without(tensors_of(folder + "/" + file), R"(\"name\":\")");
  return all;
}

// What it reports, without what the clock and the machine decide.
nlohmann::json figures(const Result& result) {
  nlohmann::json json = result.json();
  if (!json.is_object()) return json;
  for (const char* key : {"seconds", "bytes_per_second", "peak_memory_bytes"}) json.erase(key);
  return json;
}

class ExactlyOnce : public testing::Test {
 protected:
  std::vector<std::string> live(const std::string& save, const std::string& in,
                                const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"live",   "--model",     model,    "--in",     in,
                                   "--save", folder / save, "--json", "--memory", memory};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void expect_same(const std::string& one, const std::string& other) const {
    EXPECT_TRUE(learnt(folder / one) == learnt(folder / other)) << one << " and " << other;
  }

  std::string memory = "1";
  const Folder folder;
  const std::string words = some_text(120000);
  const std::string text = folder.write("text", words), model = folder.write("tiny.json", kTinyMamba);
};

TEST_F(ExactlyOnce, KilledAtRandomMomentsOfAFile) {
  const auto begin = std::chrono::steady_clock::now();
  // Rehearsal looks back on less than what is read, and on a sample of what is older.
  const std::vector<std::string> little{"--rehearsal-memory", "20000", "--distant-memory", "10000",
                                        "--threads",          "1"};
  const Result undisturbed = run(live("whole", text, little));
  ASSERT_EQ(undisturbed.code, 0) << undisturbed.err;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::mt19937 random(1);
  std::uniform_real_distribution<double> wait(0, seconds.count() / 3);
  auto command = live("killed", text, little);
  command.insert(command.end(), {"--save-every", "0.02"});
  for (int i = 0; i < 15; ++i) {
    Process process(command);
    std::this_thread::sleep_for(std::chrono::duration<double>(wait(random)));
    process.kill(SIGKILL);
    process.wait();
  }
  const Result last = run(command);
  ASSERT_EQ(last.code, 0) << last.err;
  EXPECT_EQ(figures(last), figures(undisturbed));
  expect_same("whole", "killed");
  // Once more: it is finished, and says the same.
  const Result again = run(command);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(figures(again), figures(undisturbed));
  expect_same("whole", "killed");
}

// Traces are state: what they add to gradients after a kill is what they would have added.
TEST_F(ExactlyOnce, KilledWhileGradientsReachBackByTraces) {
  const std::string part = folder.write("part", words.substr(0, 40000));
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(run(live("whole", part, {"--rtrl"})).code, 0);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  ASSERT_EQ(run(live("truncated", part)).code, 0);
  const auto command = live("killed", part, {"--rtrl", "--save-every", "0.02"});
  for (const double share : {0.4, 0.3, 0.2}) {
    Process process(command);
    std::this_thread::sleep_for(seconds * share);
    process.kill(SIGKILL);
    process.wait();
  }
  const Result last = run(command);
  ASSERT_EQ(last.code, 0) << last.err;
  expect_same("whole", "killed");
  EXPECT_NE(learnt(folder / "whole"), learnt(folder / "truncated"));
}

int64_t taken(const std::string& model) {
  return run({"info", model, "--json"}).json().at("stream").at("taken").get<int64_t>();
}

// A producer that goes on after the bytes that were taken.
TEST_F(ExactlyOnce, KilledAtRandomMomentsOfAPipe) {
  int ends[2];
  std::mt19937 random(2);
  const auto command = live("killed", "-", {"--save-every", "0.02", "--sync-every", "0.01"});
  size_t sent = 0;
  Result last;
  for (int i = 0; sent < words.size(); ++i) {
    ASSERT_EQ(::pipe(ends), 0);
    Surroundings around;
    around.input_pipe = ends[0];
    Process process(command, around);
    ::close(ends[0]);
    const size_t until = i > 12 ? words.size() : std::min(words.size(), sent + random() % 20000);
    while (sent < until) {
      const ssize_t n =
          ::write(ends[1], words.data() + sent, std::min<size_t>(until - sent, 1 + random() % 3000));
      ASSERT_GT(n, 0);
      sent += size_t(n);
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 20));
    }
    if (until == words.size()) {
      ::close(ends[1]);
      last = process.wait();
      break;
    }
    process.kill(SIGKILL);
    process.wait();
    ::close(ends[1]);
    sent = fs::exists((folder / "killed") + "/config.json") ? size_t(taken(folder / "killed")) : 0;
  }
  ASSERT_EQ(last.code, 0) << last.err;
  ASSERT_EQ(::pipe(ends), 0);
  Surroundings undisturbed;
  undisturbed.input_pipe = ends[0];
  Process process(live("whole", "-"), undisturbed);
  ::close(ends[0]);
  ASSERT_EQ(::write(ends[1], words.data(), words.size()), ssize_t(words.size()));
  ::close(ends[1]);
  const Result once = process.wait();
  ASSERT_EQ(once.code, 0) << once.err;
  EXPECT_EQ(figures(last), figures(once));
  expect_same("whole", "killed");
}

// Ended by a signal it can hear it goes on, too, in the midst of a chunk.
TEST_F(ExactlyOnce, InterruptedAndGoneOnWith) {
  ASSERT_EQ(run(live("whole", text, {"--chunk", "50"})).code, 0);
  const auto command = live("cut", text, {"--chunk", "50"});
  for (int i = 0; i < 4; ++i) {
    Process process(command);
    std::this_thread::sleep_for(std::chrono::milliseconds(150 * (i + 1)));
    process.kill(SIGTERM);
    process.wait();
  }
  EXPECT_EQ(run(command).code, 0);
  expect_same("whole", "cut");
}

TEST_F(ExactlyOnce, AFileThatGrewOrChanged) {
  const std::string log = folder.write("log", words.substr(0, 6400));
  ASSERT_EQ(run(live("log-model", log)).code, 0);
  folder.write("log", words.substr(0, 9600));
  const Result grown = run(live("log-model", log));
  ASSERT_EQ(grown.code, 0) << grown.err;
  EXPECT_EQ(grown.json().at("bytes"), 3200);
  EXPECT_EQ(grown.json().at("taken"), 9600);
  ASSERT_EQ(run(live("whole", folder.write("all", words.substr(0, 9600)))).code, 0);
  EXPECT_TRUE(tensors_of((folder / "whole") + "/model.safetensors") ==
              tensors_of((folder / "log-model") + "/model.safetensors"));

  folder.write("log", "another " + words.substr(0, 9600));
  expect_refused(run(live("log-model", log)), "--again");
  folder.write("log", words.substr(0, 5000));
  expect_refused(run(live("log-model", log)), "--again");
  const Result again = run(live("log-model", log, {"--again"}));
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.json().at("bytes"), 5000);
}

// A kill leaves a save and a journal: the journal's end is cut off anywhere, or a bit of it turned over.
TEST_F(ExactlyOnce, ADamagedJournalCostsNothingThatTheFileStillHas) {
  ASSERT_EQ(run(live("whole", text)).code, 0);
  {
    Process process(live("killed", text, {"--save-every", "1000"}));
    seconds_until([&] {
      std::error_code none;
      return fs::file_size((folder / "killed") + "/journal/00000001.journal", none) > 60000 && !none;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    process.kill(SIGKILL);
    process.wait();
  }
  const std::string stored = read_file((folder / "killed") + "/journal/00000001.journal");
  ASSERT_GT(stored.size(), 60000u);
  std::mt19937 random(3);
  for (int i = 0; i < 6; ++i) {
    const std::string name = fmt::format("damaged{}", i);
    fs::copy(folder / "killed", folder / name, fs::copy_options::recursive);
    std::string damaged = stored;
    if (i % 2)
      damaged.resize(random() % damaged.size());
    else
      damaged[random() % damaged.size()] ^= char(1 << random() % 8);
    folder.write(name + "/journal/00000001.journal", damaged);
    const Result result = run(live(name, text));
    ASSERT_EQ(result.code, 0) << result.err;
    if (i % 2 == 0) {
      EXPECT_NE(result.err.find("damaged"), std::string::npos) << result.err;
    }
    expect_same("whole", name);
  }
}

TEST_F(ExactlyOnce, ADiskThatFillsUpEndsTheRunAndLosesNothing) {
  memory = "0";  // larger than the journal
  ASSERT_EQ(run(live("whole", text)).code, 0);
  Surroundings full;
  full.largest_file = 80000;  // less than the journal is to hold, and more than a save
  const Result ended = run(live("full", text, {"--save-every", "1000"}), full);
  EXPECT_EQ(ended.code, 1);
  EXPECT_NE(ended.err.find("journal"), std::string::npos) << ended.err;
  const Result last = run(live("full", text));
  EXPECT_EQ(last.code, 0) << last.err;
  expect_same("whole", "full");
}

TEST_F(ExactlyOnce, TheJournalDoesNotGrowWithTheStream) {
  const std::string much = folder.write("much", some_text(1500000));
  const std::string fast =
      folder.write("fast.json", R"({"architecture": "mingru", "d_model": 8, "n_layer": 1})");
  ASSERT_EQ(run({"live", "--model", fast, "--memory", "0", "--in", much, "--save", folder / "m",
                 "--rehearsals", "0", "--chunk", "4096", "--save-every", "0.2"})
                .code,
            0);
  uintmax_t bytes = 0;
  for (const auto& file : fs::directory_iterator((folder / "m") + "/journal")) bytes += file.file_size();
  EXPECT_LT(bytes, 1200000u);
}

TEST_F(ExactlyOnce, TwoAtOnceAreRefused) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  Surroundings around;
  around.input_pipe = ends[0];
  Process first(live("one", "-"), around);
  seconds_until([&] { return fs::exists((folder / "one") + "/config.json"); });
  const Result second = run(live("one", "-"));
  EXPECT_EQ(second.code, 2);
  EXPECT_NE(second.err.find("another process"), std::string::npos) << second.err;
  ::close(ends[0]);
  ::close(ends[1]);
}

// A rate that is far too high: it goes back, passes over what did it, and gets through; killed on the way, too.
TEST_F(ExactlyOnce, GoesBackWhenTheCostIsNoNumber) {
  const std::vector<std::string> wild{"--learning-rate", "3", "--weight-decay", "3",
                                      "--warmup",        "0", "--save-every",   "0.02"};
  const Result undisturbed = run(live("whole", text, wild));
  ASSERT_EQ(undisturbed.code, 0) << undisturbed.err;
  const auto rejected = undisturbed.json().at("rejected").get<int64_t>();
  ASSERT_GT(rejected, 0) << undisturbed.err;
  const std::string rejects = read_file((folder / "whole") + "/rejects.jsonl");
  int64_t noted = 0;
  std::istringstream lines(rejects);
  for (std::string line; std::getline(lines, line);) {
    const auto reject = nlohmann::json::parse(line);
    const std::string hex = reject.at("hex");
    std::string bytes;
    for (size_t i = 0; i < hex.size(); i += 2) bytes += char(std::stoi(hex.substr(i, 2), nullptr, 16));
    EXPECT_EQ(bytes, words.substr(reject.at("position"), reject.at("bytes")));
    noted += int64_t(bytes.size());
  }
  EXPECT_EQ(noted, rejected);

  std::mt19937 random(4);
  for (int i = 0; i < 8; ++i) {
    Process process(live("killed", text, wild));
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 800));
    process.kill(SIGKILL);
    process.wait();
  }
  const Result last = run(live("killed", text, wild));
  ASSERT_EQ(last.code, 0) << last.err;
  EXPECT_EQ(figures(last), figures(undisturbed));
  EXPECT_TRUE(read_file((folder / "killed") + "/rejects.jsonl") == rejects);
  expect_same("whole", "killed");
}

}  // namespace
}  // namespace brood::test
