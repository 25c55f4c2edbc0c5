// Ends at bad moments: what is on disk always opens and goes on.
#include <random>

#include "tests/cli/program.h"

namespace brood::test {
namespace {

constexpr int kKills = 25;  // of each verb

using Clock = std::chrono::steady_clock;

// Starts the command again and again, each time for a random while, then kills it; what is left must open.
void expect_survives(const std::vector<std::string>& command, const std::string& model,
                     const std::string& text, unsigned seed) {
  std::mt19937 random(seed);
  int64_t most_steps = 0;
  for (int i = 0; i < kKills; ++i) {
    const auto begin = Clock::now();
    Process process(command);
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 200));
    process.kill(SIGKILL);
    EXPECT_EQ(process.wait().code, 128 + SIGKILL)
        << "it ended by itself after " << std::chrono::duration<double>(Clock::now() - begin).count() << " s";
    const Result eval = run({"eval", model, "--data", text, "--json"});
    ASSERT_EQ(eval.code, 0) << "after kill " << i << ": " << eval.err;
    ASSERT_TRUE(eval.json().at("bits_per_byte").is_number());
    const auto steps = run({"info", model, "--json"}).json().at("steps").get<int64_t>();
    EXPECT_GE(steps, most_steps) << "after kill " << i << " it is older than before";
    most_steps = std::max(most_steps, steps);
  }
  EXPECT_GT(most_steps, 0) << "no save was ever finished";
}

class Kill : public testing::Test {
 protected:
  const Folder folder;
  const std::string text = folder.write("text", some_text(300)), tiny = folder.write("tiny.json", kTinyMamba);
  const std::string model = folder / "model";
};

TEST_F(Kill, LiveAtAnyMoment) {
  const std::string endless = folder.write("endless", some_text(4000000));
  ASSERT_EQ(run({"live", "--model", tiny, "--in", text, "--save", model}).code, 0);
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
  Process live({"live", "--model", tiny, "--save", model, "--json"}, around);
  const std::string words = some_text(1000);
  ASSERT_EQ(::write(ends[1], words.data(), words.size()), ssize_t(words.size()));
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));  // time to read them; then it waits for more
  live.kill(SIGINT);
  const Result result = live.wait();
  EXPECT_EQ(result.code, 130) << result.err;
  EXPECT_EQ(result.json().at("bytes"), 1000);
  EXPECT_EQ(run({"eval", model, "--data", text}).code, 0);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(Kill, CtrlCEndsATrainingEarly) {
  Process train(
      {"train", "--model", tiny, "--data", text, "--context", "16", "--steps", "100000000", "--save", model});
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  train.kill(SIGINT);
  EXPECT_EQ(train.wait().code, 130);
  EXPECT_GT(run({"info", model, "--json"}).json().at("steps").get<int64_t>(), 0);
}

}  // namespace
}  // namespace brood::test
