// brood state, and the verbs that begin with a kept memory.
#include <stdlib.h>

#include "tests/cli/program.h"

namespace brood::test {
namespace {

class StateVerb : public testing::Test {
 protected:
  std::string save_model() {
    EXPECT_EQ(run({"live", "--model", folder.write("tiny.json", kTinyMamba), "--in",
                   folder.write("in", some_text(3000)), "--save", folder / "m"})
                  .code,
              0);
    return folder / "m";
  }
  nlohmann::json keep(const std::vector<std::string>& more) {
    std::vector<std::string> words{"state", "save"};
    words.insert(words.end(), more.begin(), more.end());
    words.push_back("--json");
    const Result result = run(words);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.json();
  }
  std::string write(const std::string& model, const std::vector<std::string>& more) {
    std::vector<std::string> words{"talk", model, "--prompt", "the ", "-n", "40", "--temperature", "0"};
    words.insert(words.end(), more.begin(), more.end());
    const Result result = run(words);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.out;
  }

  const Folder folder;
  const std::string model = save_model();
  const std::string first = folder.write("first", some_text(700));
  const std::string rest = folder.write("rest", some_text(1700).substr(700));
  const std::string kept = folder / "kept.state";
};

TEST_F(StateVerb, ATextReadOnceIsGoneOnFrom) {
  const auto json = keep({model, "--data", first, "-o", kept});
  EXPECT_EQ(json.at("positions"), nlohmann::json::array({699}));
  EXPECT_EQ(json.at("bytes"), 700);
  EXPECT_EQ(
      write(model, {"--state", kept}),
      run({"talk", model, "--fresh", "--prompt", read_file(first) + "the ", "-n", "40", "--temperature", "0"})
          .out);
  // The cost of the rest after it is what the rest costs in the whole.
  const auto cost = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words{"eval", model, "--json", "--data"};
    words.insert(words.end(), more.begin(), more.end());
    const auto result = run(words).json();
    return result.at("nats_per_byte").get<double>() * result.at("bytes").get<double>();
  };
  EXPECT_NEAR(cost({rest, "--state", kept}), cost({first, rest}) - cost({first}), 1e-3);
  // And reading on gives what reading at once gives.
  keep({model, "--data", rest, "--state", kept, "-o", folder / "on.state"});
  keep({model, "--data", first, rest, "-o", folder / "once.state"});
  const Result diff = run({"state", "diff", folder / "on.state", folder / "once.state", "--json"});
  ASSERT_EQ(diff.code, 0) << diff.err;
  const auto found = diff.json();  // outlives the loop over a part of it
  for (const auto& tensor : found.at("tensors")) {
    EXPECT_LT(tensor.at("norm_difference").get<double>(), 1e-4 * tensor.at("norm_a").get<double>());
    EXPECT_GT(tensor.at("cosine").get<double>(), 0.999999);
  }
}

TEST_F(StateVerb, AModelsOwnMemoryGoesOutAndIn) {
  const std::string lived = write(model, {});
  keep({model, "-o", kept});
  EXPECT_EQ(write(model, {"--state", kept}), lived);
  keep({model, "--data", first, "-o", folder / "other.state"});
  const std::string weights = tensors_of(model + "/model.safetensors");
  ASSERT_EQ(run({"state", "load", model, folder / "other.state"}).code, 0);
  EXPECT_TRUE(tensors_of(model + "/model.safetensors") == weights);
  EXPECT_EQ(write(model, {}), write(model, {"--state", folder / "other.state"}));
  ASSERT_EQ(run({"state", "load", model, kept}).code, 0);
  EXPECT_EQ(write(model, {}), lived);
  EXPECT_EQ(run({"live", "--model", model, "--in", rest, "--save", model}).code, 0) << "and learns on";
  expect_refused(run({"talk", model, "--state", kept, "--prompt", "a"}), "--any-weights");
  EXPECT_EQ(run({"talk", model, "--state", kept, "--any-weights", "--prompt", "a", "-n", "3"}).code, 0);
  EXPECT_EQ(run({"live", "--model", model, "--in", rest, "--state", kept, "--any-weights"}).code, 0);
}

TEST_F(StateVerb, OneStreamBecomesManyAndOneAgain) {
  keep({model, "--data", first, "-o", kept});
  const auto many = run({"state", "fork", kept, "--streams", "3", "-o", folder / "3.state", "--json"}).json();
  EXPECT_EQ(many.at("positions"), nlohmann::json::array({699, 699, 699}));
  expect_refused(run({"talk", model, "--state", folder / "3.state", "--prompt", "a"}), "3 streams");
  ASSERT_EQ(run({"state", "fork", folder / "3.state", "--stream", "2", "-o", folder / "1.state"}).code, 0);
  EXPECT_TRUE(read_file(folder / "1.state") == read_file(kept));
  expect_refused(run({"state", "fork", folder / "3.state", "--stream", "3", "-o", kept}), "stream 3");
  expect_refused(run({"state", "diff", folder / "3.state", kept}), "streams");
}

TEST_F(StateVerb, SizeSetsItBesideATransformers) {
  const auto json = run({"state", "size", "mamba-s", "--json"}).json();
  EXPECT_EQ(json.at("state_bytes"), 4 * 4 * (256 * 16 + 256 * 3));
  EXPECT_EQ(json.at("tensors").size(), 8u);
  EXPECT_EQ(json.at("transformer").at("attention_bytes").at("8192"), 2 * 4 * 4 * 128 * 8192);
  const Result table = run({"state", "size", "mamba-s"});
  EXPECT_NE(table.out.find("layers.3.ssm"), std::string::npos) << table.out;
}

TEST_F(StateVerb, MistakesAreNamed) {
  const std::string tiny = folder / "tiny.json";
  expect_refused(run({"state", "save", tiny, "-o", kept}), "--data");
  expect_refused(run({"state", "save", model, "--data", folder / "absent", "-o", kept}), "absent");
  expect_refused(run({"state", "save", model, "--data", first, "-o", folder / "no/such"}), "no/such");
  // Before anything is read: the text is not looked for.
  expect_refused(run({"state", "save", model, "--data", folder / "absent", "-o", model}), "it is a folder");
  const std::string blocked = folder / "blocked.state";
  std::filesystem::create_directory(blocked + ".writing");
  expect_refused(run({"state", "save", model, "--data", folder / "absent", "-o", blocked}), blocked);
  expect_refused(run({"eval", model, "--data", folder / "absent", "--logits", model}), "it is a folder");
  expect_refused(run({"state", "load", tiny, kept}), "tiny.json");
  expect_refused(run({"state", "diff", model + "/state.safetensors", kept}), "metadata");
  expect_refused(run({"state"}), "brood state");
  const std::string bdh = folder.write("bdh.json", kTinyBdh);
  keep({bdh, "--data", first, "-o", kept});
  expect_refused(run({"eval", model, "--data", first, "--state", kept}), "\"bdh\"");
}

// state load saves a whole folder: not one of another program's, nor what a training goes on from.
TEST_F(StateVerb, LoadLeavesOthersFoldersAlone) {
  const std::string trained = folder / "trained";
  ASSERT_EQ(run({"train", "--model", folder / "tiny.json", "--data", rest, "--batch", "1", "--context", "16",
                 "--steps", "3", "--carry", "--save", trained})
                .code,
            0);
  keep({model, "-o", kept});
  const std::string before = read_file(trained + "/state.safetensors");
  expect_refused(run({"state", "load", trained, kept, "--any-weights"}), "training under way");
  EXPECT_TRUE(read_file(trained + "/state.safetensors") == before);

  const std::string foreign = folder / "foreign";
  std::filesystem::create_directory(foreign);
  std::filesystem::copy_file(model + "/model.safetensors", foreign + "/model.safetensors");
  const std::string config = R"({"model_type": "mamba", "hidden_size": 16, "num_hidden_layers": 1,)"
                             R"( "vocab_size": 256, "state_size": 16})";
  folder.write("foreign/config.json", config);
  expect_refused(run({"state", "load", foreign, kept, "--any-weights"}), "--save");
  EXPECT_EQ(read_file(foreign + "/config.json"), config);
}

// A turn that is taken back leaves no trace: the same words come again.
TEST_F(StateVerb, ATurnOfAConversationIsTakenBack) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(master, 0);
  ASSERT_EQ(::grantpt(master) | ::unlockpt(master), 0);
  Surroundings around;
  around.input_pipe = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
  Process talk({"talk", model, "-n", "20", "--temperature", "0"}, around);
  const std::string typed =
      "/undo\none\ntwo\n/undo\n/save " + kept + "\ntwo\n/save no/such/folder\n/forget all\n\x04";
  ASSERT_EQ(::write(master, typed.data(), typed.size()), ssize_t(typed.size()));
  const Result result = talk.wait();
  EXPECT_EQ(result.code, 0) << result.err;
  std::vector<std::string> answers;  // between prompts; what commands say goes elsewhere
  for (size_t at = 0; (at = result.out.find("> ", at)) != std::string::npos;) {
    const size_t next = std::min(result.out.find("> ", at + 2), result.out.size());
    const std::string answer = result.out.substr(at + 2, next - at - 2);
    if (answer.size() > 20) answers.push_back(answer);
    at = next;
  }
  ASSERT_EQ(answers.size(), 3u) << result.out;
  EXPECT_EQ(answers[1].substr(0, 20), answers[2].substr(0, 20));
  EXPECT_NE(result.err.find("no turn to take back"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("no/such/folder"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("there is no /forget"), std::string::npos) << result.err;
  EXPECT_EQ(run({"talk", model, "--state", kept, "--prompt", "two\n", "-n", "20", "--temperature", "0"}).out,
            answers[1].substr(0, 20) + "\n");
  ::close(around.input_pipe);
  ::close(master);
}

}  // namespace
}  // namespace brood::test
