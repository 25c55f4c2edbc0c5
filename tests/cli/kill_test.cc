// Ends at bad moments: what is on disk always opens and goes on.
#include <fmt/format.h>

#include <random>

#include "tests/cli/program.h"

namespace brood::test {
namespace {

constexpr int kKills = 25;  // of each verb

using Clock = std::chrono::steady_clock;

int64_t saved_steps(const std::string& model) {
  return run({"info", model, "--json"}).json().at("steps").get<int64_t>();
}

// How long the command takes, here and now, until it has saved something new.
double seconds_to_a_save(const std::vector<std::string>& command, const std::string& model) {
  const int64_t before = saved_steps(model);
  Process process(command);
  return seconds_until([&] { return saved_steps(model) > before; });
}

// Starts the command again and again, each time for a random while, then kills it; what is left must open.
void expect_survives(const std::vector<std::string>& command, const std::string& model,
                     const std::string& text, unsigned seed) {
  std::mt19937 random(seed);
  int64_t most_steps = saved_steps(model);
  const int64_t steps_before = most_steps;
  std::uniform_real_distribution<double> wait(0, 2 * seconds_to_a_save(command, model));
  for (int i = 0; i < kKills; ++i) {
    const auto begin = Clock::now();
    Process process(command);
    std::this_thread::sleep_for(std::chrono::duration<double>(wait(random)));
    process.kill(SIGKILL);
    EXPECT_EQ(process.wait().code, 128 + SIGKILL)
        << "it ended by itself after " << std::chrono::duration<double>(Clock::now() - begin).count() << " s";
    const Result eval = run({"eval", model, "--data", text, "--json"});
    ASSERT_EQ(eval.code, 0) << "after kill " << i << ": " << eval.err;
    ASSERT_TRUE(eval.json().at("bits_per_byte").is_number());
    const int64_t steps = saved_steps(model);
    EXPECT_GE(steps, most_steps) << "after kill " << i << " it is older than before";
    most_steps = std::max(most_steps, steps);
  }
  EXPECT_GT(most_steps, steps_before) << "no save was ever finished";
}

class Kill : public testing::Test {
 protected:
  const Folder folder;
  const std::string text = folder.write("text", some_text(300)), tiny = folder.write("tiny.json", kTinyMamba);
  const std::string model = folder / "model";
};

TEST_F(Kill, LiveAtAnyMoment) {
  const std::string endless = folder.write("endless", some_text(4000000));
  ASSERT_EQ(run({"live", "--model", tiny, "--in", text, "--save", model, "--memory", "1"}).code, 0);
  expect_survives({"live", "--model", model, "--in", endless, "--save", model, "--save-every", "0.005"},
                  model, text, 1);
}

TEST_F(Kill, TrainAtAnyMoment) {
  const std::vector<std::string> train{"train",     "--model",      tiny,      "--data", text,
                                       "--context", "16",           "--batch", "2",      "--save",
                                       model,       "--save-every", "0.005"};
  auto first = train, endless = train;
  for (const char* word : {"--steps", "1"}) first.push_back(word);
  for (const char* word : {"--steps", "100000000", "--resume"}) endless.push_back(word);
  ASSERT_EQ(run(first).code, 0);
  expect_survives(endless, model, text, 2);
}

TEST_F(Kill, CtrlCSavesAndEnds) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  Surroundings around;
  around.input_pipe = ends[0];
  const std::vector<std::string> command{"live",     "--model", tiny,  "--save",       model, "--save-every",
                                         "0.000001", "--chunk", "100", "--rehearsals", "0",   "--json",
                                         "--memory", "1"};
  Process live(command, around);
  const std::string words = some_text(1000);
  ASSERT_EQ(::write(ends[1], words.data(), words.size()), ssize_t(words.size()));
  // All of it is in the journal at once, and is learnt then or the next time.
  seconds_until([&] { return std::filesystem::exists(model + "/config.json"); });
  seconds_until([&] { return run({"info", model, "--json"}).json()["stream"]["read_to"] == 1000; });
  live.kill(SIGINT);
  const Result result = live.wait();
  EXPECT_EQ(result.code, 130) << result.err;
  EXPECT_LE(result.json().at("bytes"), 1000);
  EXPECT_EQ(run({"eval", model, "--data", text}).code, 0);
  EXPECT_EQ(run(command).json().at("bytes"), 1000);
  ::close(ends[0]);
  ::close(ends[1]);
}

// The handler runs in the midst of products; what it interrupts must not notice.
TEST_F(Kill, CtrlCLeavesWhatACleanRunLeaves) {
  const std::string words = some_text(400000);
  const std::string all = folder.write("all", words), broad = folder.write("broad.json", kBroadMamba);
  std::mt19937 random(3);
  for (int i = 0; i < 6; ++i) {
    const std::string cut = folder / fmt::format("cut{}", i), clean = folder / fmt::format("clean{}", i);
    Process live({"live", "--model", broad, "--memory", "1", "--in", all, "--save", cut, "--save-every",
                  "0.02", "--json"});
    seconds_until([&] { return std::filesystem::exists(cut + "/config.json") && saved_steps(cut) > 0; });
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 300000));
    live.kill(i % 2 ? SIGTERM : SIGHUP);
    const Result result = live.wait();
    ASSERT_EQ(result.code, 128 + (i % 2 ? SIGTERM : SIGHUP)) << result.err;
    const auto bytes = result.json().at("bytes").get<size_t>();
    ASSERT_GT(bytes, 0u);
    const std::string part = folder.write("part", words.substr(0, bytes));
    ASSERT_EQ(run({"live", "--model", broad, "--memory", "1", "--in", part, "--save", clean}).code, 0);
    EXPECT_TRUE(tensors_of(cut + "/model.safetensors") == tensors_of(clean + "/model.safetensors"))
        << "after " << bytes << " bytes";
  }
}

TEST_F(Kill, CtrlCEndsATrainingEarly) {
  Process train({"train", "--model", tiny, "--data", text, "--context", "16", "--steps", "100000000",
                 "--save-every", "0.1", "--save", model});
  seconds_until([&] { return std::filesystem::exists(model + "/config.json") && saved_steps(model) > 0; });
  train.kill(SIGINT);
  EXPECT_EQ(train.wait().code, 130);
  EXPECT_GT(saved_steps(model), 0);
}

}  // namespace
}  // namespace brood::test
