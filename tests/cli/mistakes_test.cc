// What the program says to mistakes, and to the odd but right.
#include <stdlib.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "tests/cli/program.h"

namespace brood::test {
namespace {

TEST(Help, EveryVerbTeachesByExample) {
  for (const char* verb : {"live", "train", "eval", "talk", "compare", "tasks", "state", "merge", "speed",
                           "pack", "unpack", "info"}) {
    const Result result = run({verb, "--help"});
    EXPECT_EQ(result.code, 0);
    EXPECT_NE(result.out.find("Examples:\n  brood " + std::string(verb)), std::string::npos) << result.out;
    for (const char* option : {"--threads", "--seed", "--json"}) {
      EXPECT_NE(result.out.find(option), std::string::npos) << verb << " has no " << option;
    }
  }
}

TEST(Help, NoVerbOrAnUnknownOneIsAMistake) {
  EXPECT_EQ(run({}).code, 2);
  expect_refused(run({"dream"}), "dream");
  expect_refused(run({"live", "--model", "mamba-s", "--chunk", "zero"}), "--chunk");
  expect_refused(run({"live"}), "--model");
  expect_refused(run({"tasks"}), "tasks");
  expect_refused(run({"tasks", "juggling"}), "juggling");
}

TEST(Mistakes, NumbersThatAreNoneOrTooLarge) {
  const auto refused = [](const char* option, const char* value, const std::string& wanted) {
    expect_refused(run({"live", "--model", "mamba-s", option, value}),
                   std::string(option) + ": must be " + wanted + ", but is " + value);
  };
  refused("--seed", "-1", "a whole number from 0 to 9223372036854775807");
  refused("--seed", "99999999999999999999999", "a whole number from 0 to 9223372036854775807");
  refused("--threads", "1.5", "a whole number from 1 to 1024");
  refused("--learning-rate", "nan", "a number from 0 to 10");
  refused("--learning-rate", "1e-3x", "a number from 0 to 10");
  refused("--save-every", "inf", "a number above 0, at most 1e+09");
  expect_refused(run({"talk", "mamba-s", "--prompt", "a", "-n", "99999999999999999999"}), "-n: must be");
}

TEST(Mistakes, AnEmptyTextHasNoScore) {
  const Folder folder;
  expect_refused(run({"eval", "mamba-s", "--data", folder.write("empty", "")}), "empty");
  const Result nothing = run({"live", "--model", "mamba-s", "--in", folder.write("none", "")});
  EXPECT_EQ(nothing.code, 0);
  EXPECT_NE(nothing.err.find("nothing predicted yet"), std::string::npos) << nothing.err;
}

TEST(Mistakes, AreNamedInOneSentence) {
  const Folder folder;
  const std::string text = folder.write("text", some_text(300));
  const std::string tiny = folder.write("tiny.json", kTinyMamba);
  const std::string absent = folder / "absent";
  expect_refused(run({"live", "--model", tiny, "--in", absent}), "absent");
  expect_refused(run({"train", "--model", tiny, "--data", absent}), "absent");
  expect_refused(run({"eval", tiny, "--data", absent}), "absent");
  expect_refused(run({"live", "--model", "mamba-x", "--in", text}), "mamba-x");
  expect_refused(run({"talk", "no-such-model", "--prompt", "a"}), "no-such-model");
  expect_refused(
      run({"live", "--model", folder.write("torn.json", R"({"architecture": "mamba", )"), "--in", text}),
      "torn.json");
  expect_refused(run({"live", "--model",
                      folder.write("key.json", R"({"architecture": "mamba", "d_modal": 16})"), "--in", text}),
                 "d_modal");
  expect_refused(
      run({"live", "--model", folder.write("shape.json", R"({"architecture": "mamba", "d_model": -3})"),
           "--in", text}),
      "d_model");
  const std::string few =
      folder.write("few.json", R"({"architecture": "mamba", "d_model": 16, "vocab_size": 50})");
  for (const auto& words : std::vector<std::vector<std::string>>{{"live", "--model", few, "--in", text},
                                                                 {"train", "--model", few, "--data", text},
                                                                 {"eval", few, "--data", text},
                                                                 {"talk", few, "--prompt", "a"}}) {
    expect_refused(run(words), "50");
  }
  expect_refused(run({"train", "--model", tiny, "--data", text, "--context", "4096"}), "4096");
  expect_refused(run({"speed", "--model", tiny, "--activity", "0.1"}), "mamba");
  expect_refused(run({"compare", tiny}), "--data");
  expect_refused(run({"compare", tiny, "mamba-x", "--data", text}), "mamba-x");
  expect_refused(run({"tasks", "mqar", "--mixer", "abacus"}), "abacus");
  expect_refused(run({"tasks", "mqar", "--with", "[1]"}), "--with");
  expect_refused(run({"tasks", "mqar", "--model", few}), "50");
  expect_refused(run({"tasks", "copying", "--length", "20"}), "20");
  expect_refused(run({"tasks", "spring", "--damping", "100"}), "100");
}

TEST(Mistakes, AFolderThatCannotBeWrittenIsKnownAtOnce) {
  const Folder folder;
  const std::string text = folder.write("text", some_text(300));
  const std::string tiny = folder.write("tiny.json", kTinyMamba);
  const std::string under_a_file = text + "/model";
  expect_refused(run({"live", "--model", tiny, "--in", text, "--save", under_a_file}), under_a_file);
  expect_refused(run({"train", "--model", tiny, "--data", text, "--save", under_a_file}), under_a_file);
}

TEST(Mistakes, ASaveWithoutANameIsRefused) {
  const Folder folder;
  const std::string text = folder.write("text", some_text(300)), tiny = folder.write("tiny.json", kTinyMamba);
  const std::string wanted = "--save: must be the name of a folder, but is empty";
  expect_refused(run({"live", "--model", tiny, "--in", text, "--save", ""}), wanted);
  expect_refused(run({"live", "--model", tiny, "--in", text, "--save="}), "--save");
  expect_refused(run({"train", "--model", tiny, "--data", text, "--save", ""}), wanted);
  expect_refused(run({"tasks", "mqar", "--save", ""}), wanted);
  expect_refused(run({"merge", tiny, tiny, "--save", ""}), wanted);
}

// A command that begins anew must not replace what was learnt by a model that knows nothing.
TEST(Mistakes, ALearntModelIsNotReplacedUnasked) {
  const Folder folder;
  const std::string text = folder.write("text", some_text(300)), model = folder / "model";
  const std::string tiny = folder.write("tiny.json", kTinyMamba);
  const std::vector<std::string> live{"live", "--model", tiny, "--in", text, "--save", model};
  const std::vector<std::string> train{"train", "--model",   tiny, "--data", text, "--steps",
                                       "2",     "--context", "16", "--save", model};
  ASSERT_EQ(run(live).code, 0);
  auto live_on_another = live;
  live_on_another[4] = folder.write("another", some_text(500));
  for (const auto& again : {live_on_another, train}) {
    const std::string before = read_file(model + "/model.safetensors");
    const Result result = run(again);
    expect_refused(result, "--overwrite");
    EXPECT_NE(result.err.find(again[0] == "live" ? "--model " + model : "--resume"), std::string::npos);
    EXPECT_TRUE(read_file(model + "/model.safetensors") == before);
    auto start_over = again, go_on = again;
    start_over.push_back("--overwrite");
    EXPECT_EQ(run(start_over).code, 0);
    EXPECT_FALSE(read_file(model + "/model.safetensors") == before);
    go_on[2] = model + "/.";  // the same folder by another name
    EXPECT_EQ(run(go_on).code, 0);
  }
}

TEST(Mistakes, NotANumberInACheckpointIsRefused) {
  const Folder folder;
  const std::string text = folder.write("text", some_text(300));
  const std::string tiny = folder.write("tiny.json", kTinyMamba), model = folder / "model";
  ASSERT_EQ(run({"live", "--model", tiny, "--in", text, "--save", model}).code, 0);
  std::string bytes = read_file(model + "/model.safetensors");
  const float nan = std::nanf("");
  std::memcpy(bytes.data() + bytes.size() - sizeof(nan), &nan, sizeof(nan));
  folder.write("model/model.safetensors", bytes);
  expect_refused(run({"talk", model, "--prompt", "a"}), "model");
  folder.write("model/model.safetensors", bytes.substr(0, bytes.size() / 2));
  expect_refused(run({"talk", model, "--prompt", "a"}), "model.safetensors");
}

TEST(Odd, NothingOneByteAndNoiseAreStreams) {
  const Folder folder;
  const std::string tiny = folder.write("tiny.json", kTinyMamba);
  std::string noise(5000, '\0');
  uint32_t chance = 1;
  for (char& c : noise) c = char((chance = chance * 1664525 + 1013904223) >> 24);
  for (const std::string& bytes : {std::string(), std::string("x"), noise}) {
    const std::string in = folder.write("in", bytes);
    const Result live =
        run({"live", "--model", tiny, "--in", in, "--save", folder / "m", "--overwrite", "--json"});
    ASSERT_EQ(live.code, 0) << live.err;
    EXPECT_EQ(live.json().at("bytes"), bytes.size());
    EXPECT_TRUE(live.json().at("bits_per_byte").is_number());
    const double bits = live.json().at("bits_per_byte");
    EXPECT_NEAR(bits, bytes.empty() ? 0.0 : 8.0, bytes.size() == 1 ? 0.01 : 0.5);
    if (!bytes.empty()) {
      EXPECT_EQ(run({"eval", folder / "m", "--data", in, "--json"}).json().at("bytes"), bytes.size());
    }
    const Result talk = run({"talk", folder / "m", "--prompt", "", "-n", "10", "--json"});
    EXPECT_EQ(talk.json().at("bytes"), 10);
  }
}

TEST(Odd, AFolderStandsForItsText) {
  const Folder folder;
  const std::string tiny = folder.write("tiny.json", kTinyMamba);
  std::filesystem::create_directory(folder / "tree");
  folder.write("tree/a", "hello ");
  folder.write("tree/b", "world");
  folder.write("tree/c", std::string("\0\1\2", 3));
  const Result result = run({"live", "--model", tiny, "--in", folder / "tree", "--json"});
  EXPECT_EQ(result.json().at("bytes"), 11) << result.err;
}

TEST(Odd, WhatOfAFolderCannotBeReadIsSaid) {
  const Folder folder;
  const std::string tiny = folder.write("tiny.json", kTinyMamba);
  std::filesystem::create_directory(folder / "tree");
  folder.write("tree/a", "hello ");
  folder.write("tree/b", "world");
  Surroundings around;
  around.permissions_hold = true;
  std::filesystem::permissions(folder / "tree/b", std::filesystem::perms::none);
  const Result result = run({"live", "--model", tiny, "--in", folder / "tree", "--json"}, around);
  EXPECT_EQ(result.json().at("bytes"), 6) << result.err;
  const std::string left_out = "reading " + (folder / "tree/b") + ": it cannot be read and is left out\n";
  const size_t at = result.err.find(left_out);
  EXPECT_NE(at, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("left out", at + left_out.size()), std::string::npos) << result.err;
}

TEST(Odd, ARunThatDivergesIsNoMistake) {
  const Folder folder;
  const std::string text = folder.write("text", some_text(4000)),
                    tiny = folder.write("tiny.json", kTinyMamba);
  const Result result = run({"live", "--model", tiny, "--in", text, "--learning-rate", "10", "--weight-decay",
                             "10", "--warmup", "0", "--rollbacks", "0"});
  EXPECT_EQ(result.code, 1) << result.err;
  EXPECT_NE(result.err.find("not a number any more"), std::string::npos) << result.err;
}

TEST(Odd, AFullDiskLeavesTheOldModel) {
  const Folder folder;
  const std::string text = folder.write("text", some_text(2000)), model = folder / "model";
  const std::string tiny = folder.write("tiny.json", kTinyMamba);
  ASSERT_EQ(run({"live", "--model", tiny, "--in", text, "--save", model}).code, 0);
  const std::string before = read_file(model + "/model.safetensors");
  Surroundings full;
  full.largest_file = long(before.size() / 2);
  const std::string more = folder.write("more", some_text(3000));
  const Result live = run({"live", "--model", model, "--in", more, "--save", model}, full);
  EXPECT_EQ(live.code, 1);
  EXPECT_NE(live.err.find(model), std::string::npos) << live.err;
  EXPECT_EQ(read_file(model + "/model.safetensors"), before);
  EXPECT_EQ(run({"eval", model, "--data", text}).code, 0);
}

// Reading a terminal from its master's side fails with EIO once nobody has the other side open.
TEST(Odd, AStreamThatBreaksKeepsWhatWasLearnt) {
  const Folder folder;
  const std::string tiny = folder.write("tiny.json", kTinyMamba), model = folder / "model";
  Surroundings around;
  around.input_pipe = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(around.input_pipe, 0);
  ASSERT_EQ(::grantpt(around.input_pipe) | ::unlockpt(around.input_pipe), 0);
  const int other = ::open(::ptsname(around.input_pipe), O_RDWR | O_NOCTTY);
  Process live({"live", "--model", tiny, "--save", model, "--chunk", "10"}, around);
  const std::string words = some_text(1000);
  ASSERT_EQ(::write(other, words.data(), words.size()), ssize_t(words.size()));
  ::close(other);
  const Result result = live.wait();
  ::close(around.input_pipe);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("Input/output error"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("saved in " + model), std::string::npos) << result.err;
  EXPECT_GE(run({"info", model, "--json"}).json().at("steps"), 100);
}

TEST(Odd, AReaderThatLeavesIsNoFailure) {
  const Folder folder;
  const std::string tiny = folder.write("tiny.json", kTinyMamba);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  Surroundings around;
  around.output_pipe = ends[1];
  Process talk({"talk", tiny, "--prompt", "a", "-n", "100000000"}, around);
  ::close(ends[1]);
  char some[10];
  ASSERT_GT(::read(ends[0], some, sizeof(some)), 0);
  ::close(ends[0]);
  const Result result = talk.wait();
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
}

TEST(Odd, OutputThatCannotBeWrittenIsAFailure) {
  Surroundings around;
  around.output = "/dev/full";
  const Result result = run({"info"}, around);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("standard output"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace brood::test
