// What every verb gives: its JSON, the same numbers at every number of threads, and exact continuation.
#include <stdlib.h>

#include <set>

#include "tests/cli/program.h"

namespace brood::test {
namespace {

std::set<std::string> keys(const nlohmann::json& object) {
  std::set<std::string> found;
  for (const auto& [key, value] : object.items()) found.insert(key);
  return found;
}

void expect_numbers(const nlohmann::json& result, const std::vector<std::string>& wanted) {
  for (const auto& key : wanted) {
    ASSERT_TRUE(result.contains(key)) << key << " is not in " << result;
    EXPECT_TRUE(result[key].is_number()) << key << " in " << result;
  }
}

class Verbs : public testing::Test {
 protected:
  const Folder folder;
  const std::string text = folder.write("text", some_text(6000));
  const std::string tiny = folder.write("tiny.json", kTinyMamba);
};

TEST_F(Verbs, LiveLearnsAndSaysHowWell) {
  const Result result = run({"live", "--model", tiny, "--in", text, "--learning-rate", "0.01", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto json = result.json();
  expect_numbers(
      json, {"bytes", "bits_per_byte", "last_bits_per_byte", "network_bits_per_byte", "seconds",
             "bytes_per_second", "parameters", "active_fraction", "gated_fraction", "peak_memory_bytes"});
  EXPECT_EQ(json["bytes"], 6000);
  EXPECT_LT(json["bits_per_byte"].get<double>(), 6);
  EXPECT_GT(json["bits_per_byte"].get<double>(), 0.5);
  EXPECT_GT(json["network_bits_per_byte"].get<double>(), json["bits_per_byte"].get<double>());
  EXPECT_GT(json["peak_memory_bytes"].get<int64_t>(), 1 << 20);
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1)
      << "only the result on standard output";
  EXPECT_EQ(result.err.find('\r'), std::string::npos) << "no bar where there is no terminal";
}

TEST_F(Verbs, LiveShowsTheShareOfNeuronsAwake) {
  const std::string bdh = folder.write("bdh.json", kTinyBdh);
  const auto json = run({"live", "--model", bdh, "--in", text, "--json"}).json();
  EXPECT_GT(json.at("active_fraction").get<double>(), 0.05);
  EXPECT_LT(json.at("active_fraction").get<double>(), 0.95);
  EXPECT_LT(json.at("gated_fraction").get<double>(), json.at("active_fraction").get<double>());
}

TEST_F(Verbs, LiveReadsAPipeAsAFile) {
  Surroundings around;
  around.input = text;
  const auto piped = run({"live", "--model", tiny, "--json"}, around).json();
  const auto named = run({"live", "--model", tiny, "--in", text, "--json"}).json();
  EXPECT_EQ(piped.at("bits_per_byte"), named.at("bits_per_byte"));
}

// A stream cut in two at a chunk's border, with a save between: as if it had never been cut.
TEST_F(Verbs, LiveGoesOnWhereItStopped) {
  const std::string whole = some_text(6000);
  const std::string first = folder.write("first", whole.substr(0, 3200));
  const std::string rest = folder.write("rest", whole.substr(3200));
  const auto live = [&](const std::string& model, const std::string& in, const std::string& save) {
    EXPECT_EQ(run({"live", "--model", model, "--in", in, "--save", save}).code, 0);
  };
  live(tiny, text, folder / "once");
  live(tiny, first, folder / "twice");
  live(folder / "twice", rest, folder / "twice");
  for (const char* file : {"/model.safetensors", "/state.safetensors", "/memory.safetensors"}) {
    EXPECT_TRUE(tensors_of((folder / "once") + file) == tensors_of((folder / "twice") + file)) << file;
  }
}

TEST_F(Verbs, ResultsDependOnTheSeedAloneNotOnThreads) {
  for (const char* config : {kTinyMamba, kTinyBdh, kTinyTransformer}) {
    const std::string model = folder.write("model.json", config);
    const auto files = [&](const char* threads, const char* seed) {
      EXPECT_EQ(run({"live", "--model", model, "--in", text, "--threads", threads, "--seed", seed, "--save",
                     folder / "l", "--overwrite"})
                    .code,
                0);
      EXPECT_EQ(run({"train", "--model", model, "--data", text, "--threads", threads, "--seed", seed,
                     "--steps", "5", "--context", "32", "--save", folder / "t", "--overwrite"})
                    .code,
                0);
      return std::vector{
          tensors_of(folder / "l/model.safetensors"), tensors_of(folder / "l/state.safetensors"),
          tensors_of(folder / "l/memory.safetensors"), tensors_of(folder / "t/model.safetensors")};
    };
    const auto one = files("1", "7");
    EXPECT_FALSE(one[0].empty());
    EXPECT_TRUE(one == files("2", "7")) << config;
    EXPECT_TRUE(one == files("1", "7")) << config;
    EXPECT_FALSE(one == files("1", "8")) << config;
  }
}

TEST_F(Verbs, TrainLearnsAndSaysHowWell) {
  const Result result =
      run({"train", "--model",  tiny,         "--data",          text,   "--hold-out", "0.1", "--steps",
           "60",    "--warmup", "5",          "--learning-rate", "0.01", "--context",  "32",  "--valid-every",
           "20",    "--save",   folder / "m", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto json = result.json();
  expect_numbers(
      json, {"steps", "train_loss", "valid_bits_per_byte", "tokens_per_second", "seconds", "parameters"});
  EXPECT_EQ(json["steps"], 60);
  EXPECT_LT(json["valid_bits_per_byte"].get<double>(), 4.5);
  EXPECT_NE(result.err.find("step 40: validation"), std::string::npos) << result.err;
  const auto eval = run({"eval", folder / "m", "--data", text, "--context", "32", "--json"}).json();
  EXPECT_NEAR(eval.at("bits_per_byte").get<double>(), json["valid_bits_per_byte"].get<double>(), 0.5);
}

TEST_F(Verbs, TrainWithoutValidationHasNoSuchNumber) {
  const auto json =
      run({"train", "--model", tiny, "--data", text, "--steps", "2", "--context", "16", "--json"}).json();
  EXPECT_TRUE(json.at("valid_bits_per_byte").is_null());
}

TEST_F(Verbs, TrainStopsWithTheClock) {
  const auto json =
      run({"train", "--model", tiny, "--data", text, "--minutes", "0.01", "--context", "16", "--json"})
          .json();
  EXPECT_GT(json.at("steps").get<int64_t>(), 0);
  EXPECT_GE(json.at("seconds").get<double>(), 0.6);
}

TEST_F(Verbs, ResumedTrainingIsTheSameTraining) {
  const std::string dropout = folder.write(
      "dropout.json",
      R"({"architecture": "transformer", "d_model": 16, "n_head": 2, "n_layer": 1, "window": 64, "dropout": 0.1})");
  for (const std::string& model : {tiny, dropout}) {
    for (const char* way : {"--carry", "--batch=3"}) {
      const auto train = [&](const char* steps, const std::string& save) {
        const Result result = run({"train", "--model", model, "--data", text, "--context", "32", "--decay",
                                   "constant", way, "--steps", steps, "--save", save, "--resume"});
        EXPECT_EQ(result.code, 0) << result.err;
      };
      std::filesystem::remove_all(folder / "once");
      std::filesystem::remove_all(folder / "thrice");
      train("30", folder / "once");
      for (const char* steps : {"7", "23", "30"}) train(steps, folder / "thrice");
      EXPECT_TRUE(tensors_of(folder / "once/model.safetensors") ==
                  tensors_of(folder / "thrice/model.safetensors"))
          << way;
    }
  }
  expect_refused(run({"train", "--model", tiny, "--data", text, "--context", "16", "--batch", "3", "--save",
                      folder / "once", "--resume"}),
                 "context");
}

TEST_F(Verbs, EvalScoresAndLearnsIfAsked) {
  const auto still = run({"eval", tiny, "--data", text, "--json"}).json();
  const auto live = run({"eval", tiny, "--data", text, "--live", "--learning-rate", "0.01", "--json"}).json();
  EXPECT_NEAR(still.at("bits_per_byte").get<double>(), 8, 0.5);
  EXPECT_LT(live.at("bits_per_byte").get<double>(), 6);
  EXPECT_EQ(still.at("bytes"), 6000);
}

TEST_F(Verbs, TasksAreLearntAndTestedAtEveryLength) {
  const Result result =
      run({"tasks", "delay", "--d-model", "16", "--layers", "1", "--steps", "3", "--check-every", "2",
           "--test-length", "20", "300", "--test-sequences", "4", "--save", folder / "m", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto json = result.json();
  expect_numbers(json, {"steps", "train_loss", "seconds", "parameters", "train_length"});
  EXPECT_EQ(json["config"]["vocab_size"], 16);
  ASSERT_EQ(json["scores"].size(), 2u);
  EXPECT_EQ(json["scores"][1]["length"], 300);
  EXPECT_EQ(json["scores"][1]["answers"], 4 * (300 - 16));
  EXPECT_NE(result.err.find("step 2: "), std::string::npos) << result.err;
  // What was saved is tested without another step, and trained on with --resume.
  const auto again = run({"tasks", "delay", "--model", folder / "m", "--steps", "0", "--test-length", "20",
                          "300", "--test-sequences", "4", "--json"})
                         .json();
  EXPECT_EQ(again.at("scores"), json["scores"]);
  const auto more =
      run({"tasks", "delay", "--steps", "5", "--save", folder / "m", "--resume", "--json"}).json();
  EXPECT_EQ(more.at("steps"), 5);
  const auto go_on = [&](std::vector<std::string> more) {
    std::vector<std::string> words{"tasks",      "delay",    "--steps",       "5",  "--save",
                                   folder / "m", "--resume", "--test-length", "20", "--test-sequences",
                                   "1"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  expect_refused(go_on({"--mixer", "attention"}), "attention");
  expect_refused(go_on({"--d-model", "32"}), "32");
  expect_refused(go_on({"--layers", "2"}), "n_layer");
  expect_refused(go_on({"--with", R"({"d_state": 5})"}), "d_state");
  expect_refused(go_on({"--model", folder.write("tiny.json", kTinyMamba)}), "architecture");
  const Result same =
      go_on({"--mixer", "mamba", "--d-model", "16", "--layers", "1", "--with", R"({"expand": 2})"});
  EXPECT_EQ(same.code, 0) << same.err;
}

// What is not said again is not asked for.
TEST_F(Verbs, TasksAreResumedByAPartOfWhatTheyWereBegunWith) {
  const auto task = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words{
        "tasks",   "delay", "--d-model",     "16", "--layers",         "2", "--batch", "2",
        "--steps", "1",     "--test-length", "20", "--test-sequences", "1", "--save",  folder / "m"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  // Its two parts read different defaults for one key, so they are kept as objects.
  for (const char* begun : {R"({"feed": "swiglu", "d_state": 5, "expand": 3})",
                            R"({"feed": "switch", "n_expert": 2, "d_state": 5, "expand": 3})",
                            R"({"feed": {"type": "swiglu", "d_ff": 24}, "d_state": 5, "expand": 3})",
                            R"({"mixer": ["mamba", "attention"], "n_head": 2, "d_state": 5, "expand": 3})"}) {
    const Result made = task({"--with", begun, "--overwrite"});
    ASSERT_EQ(made.code, 0) << made.err;
    for (const char* part : {begun, R"({"d_state": 5})", R"({"expand": 3})", "{}"}) {
      const Result resumed = task({"--with", part, "--resume"});
      EXPECT_EQ(resumed.code, 0) << begun << " " << part << ": " << resumed.err;
    }
    EXPECT_EQ(task({"--resume"}).code, 0);
    expect_refused(task({"--with", R"({"d_state": 6})", "--resume"}), "\"d_state\" 5, not 6");
    expect_refused(task({"--with", R"({"feed": "relu2", "expand": 3})", "--resume"}), "\"feed\"");
    expect_refused(task({"--with", R"({"n_state": 5})", "--resume"}), "\"n_state\" none, not 5");
  }
}

TEST_F(Verbs, TasksEndWhenTheyAreGoodEnough) {
  std::vector<std::string> words{"tasks",         "delay", "--d-model",        "16",  "--layers", "1",
                                 "--batch",       "2",     "--steps",          "300", "--until",  "0.001",
                                 "--test-length", "20",    "--test-sequences", "1",   "--json"};
  const auto json = run(words).json();
  EXPECT_TRUE(json.at("ended_early").get<bool>());
  EXPECT_EQ(json["steps"], 100) << "scores on the way without being asked for";
  words.insert(words.end(), {"--check-every", "0"});
  expect_refused(run(words), "--until");
}

TEST_F(Verbs, TheSpringIsFound) {
  const auto json = run({"tasks", "spring", "--mass", "3", "--json"}).json();
  expect_numbers(json, {"mass", "damping", "stiffness", "unexplained", "steps"});
  for (const char* error : {"mass_error", "damping_error", "stiffness_error"}) {
    EXPECT_LT(json.at(error).get<double>(), 0.02);
  }
}

TEST_F(Verbs, TalkWritesAsManyBytesAsAsked) {
  const auto greedy = [&] {
    return run({"talk", tiny, "--prompt", "the ", "-n", "40", "--temperature", "0", "--json"});
  };
  const Result result = greedy();
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.json().at("bytes"), 40);
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1)
      << "only the result on standard output";
  EXPECT_EQ(result.json().at("text"), greedy().json().at("text"));
  const Result plain = run({"talk", tiny, "--prompt", "the ", "-n", "40", "--temperature", "0"});
  EXPECT_EQ(plain.out.size(), 41u) << "the bytes and a line's end";
  Surroundings around;
  around.input = folder.write("prompt", "the ");
  EXPECT_EQ(run({"talk", tiny, "-n", "40", "--temperature", "0"}, around).out, plain.out);
}

TEST_F(Verbs, TalkTakesTurnsOnATerminal) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(master, 0);
  ASSERT_EQ(::grantpt(master) | ::unlockpt(master), 0);
  Surroundings around;
  around.input_pipe = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
  Process talk({"talk", tiny, "-n", "5"}, around);
  const std::string typed = "hello\n\x04";  // a line, then Ctrl-D
  ASSERT_EQ(::write(master, typed.data(), typed.size()), ssize_t(typed.size()));
  const Result result = talk.wait();
  EXPECT_EQ(result.code, 0) << result.err;
  ASSERT_EQ(result.out.size(), 11u) << "a prompt, five bytes and a line's end, a prompt and a line's end";
  EXPECT_EQ(result.out.substr(0, 2), "> ");
  EXPECT_EQ(result.out.substr(7), "\n> \n");
  ::close(around.input_pipe);
  ::close(master);
}

TEST_F(Verbs, TalkGoesOnFromTheStreamThatTheModelLivedOn) {
  ASSERT_EQ(
      run({"live", "--model", tiny, "--in", text, "--learning-rate", "0.01", "--save", folder / "m"}).code,
      0);
  const std::string greedy = "0";
  const Result goes_on = run({"talk", folder / "m", "--prompt", "", "-n", "60", "--temperature", greedy});
  // Reading the whole stream again, with the weights it ended with, gives nearly the same state and so the
  // same words.
  const Result again = run(
      {"talk", folder / "m", "--fresh", "--prompt", read_file(text), "-n", "60", "--temperature", greedy});
  EXPECT_EQ(goes_on.out.substr(0, 8), again.out.substr(0, 8));
}

TEST_F(Verbs, SpeedMeasuresItselfAgainstTheLimit) {
  for (const char* what : {"decode", "prefill", "train", "live"}) {
    const Result result = run({"speed", "--model", tiny, "--what", what, "--repeats", "1", "--json"});
    ASSERT_EQ(result.code, 0) << result.err;
    const auto json = result.json();
    expect_numbers(json, {"tokens_per_second", "bytes_per_token", "flops_per_token", "limit", "limit_share"});
    EXPECT_GT(json["tokens_per_second"].get<double>(), 0);
    EXPECT_GT(json["limit_share"].get<double>(), 0);
  }
}

TEST_F(Verbs, SpeedSetsTheActivityOfNeurons) {
  const std::string bdh = folder.write(
      "bdh.json", R"({"architecture": "bdh", "d_model": 32, "n_neuron": 2048, "n_head": 2, "n_layer": 2})");
  const auto json = run({"speed", "--model", bdh, "--activity", "0.1", "--repeats", "1", "--json"}).json();
  EXPECT_NEAR(json.at("active_fraction").get<double>(), 0.1, 0.03);
  const auto dense =
      run({"speed", "--model", bdh, "--activity", "0.1", "--dense", "--repeats", "1", "--json"}).json();
  EXPECT_NEAR(dense.at("active_fraction").get<double>(), 0.1, 0.03);
  EXPECT_GT(dense.at("bytes_per_token").get<double>(), 2 * json.at("bytes_per_token").get<double>());
}

TEST_F(Verbs, InfoCountsWhatAModelIs) {
  const auto json = run({"info", "bdh-s", "--json"}).json();
  expect_numbers(json,
                 {"parameters", "state_bytes_per_stream", "bytes_per_token_dense", "bytes_per_token_sparse"});
  EXPECT_EQ(json["parameters"], 425984);
  EXPECT_EQ(json["state_bytes_per_stream"].get<int64_t>() / (4 * 2048 * 64), 4);
  EXPECT_LT(json["bytes_per_token_sparse"].get<double>(), json["bytes_per_token_dense"].get<double>() / 2);
  const auto cpu = run({"info", "--cpu", "--json"}).json();
  EXPECT_EQ((std::set<std::string>{"bf16_flops", "bf16_kernel", "cpu", "f32_flops", "product_library",
                                   "read_bytes_per_second", "simd_target", "simd_targets", "threads"}),
            keys(cpu));
}

}  // namespace
}  // namespace brood::test
