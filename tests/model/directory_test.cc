#include "brood/model/directory.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>

#include "brood/base/json.h"
#include "brood/model/presets.h"
#include "brood/model/safetensors.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"
#include "tests/fixture/tiny_models.h"

namespace brood {
namespace {

using nlohmann::json;

class SavedModel : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Directory, SavedModel, testing::Values("bdh", "mamba", "transformer"));

TEST_P(SavedModel, LoadsWhatWasSaved) {
  ScratchDirectory scratch;
  Model model(tiny_config(GetParam()), 3);
  State state = model.make_state(2);
  run(model, state, 5);
  fill_moments(model);
  const Progress progress{.steps = 17, .extra = {{"loss", 1.5}, {"list", {1, 2}}}};
  save_model(scratch / "m", model, &state, &progress);

  LoadedModel loaded = load_model(scratch / "m", 99);
  EXPECT_EQ(loaded.model->config(), model.config());
  expect_same_parameters(*loaded.model, model);
  ASSERT_TRUE(loaded.state && loaded.progress);
  expect_same_state(*loaded.state, state);
  EXPECT_EQ(loaded.progress->steps, 17);
  EXPECT_EQ(loaded.progress->extra, progress.extra);
  EXPECT_EQ(run(*loaded.model, *loaded.state, 3), run(model, state, 3));  // to the bit
}

TEST_P(SavedModel, ASaveWithoutStateRemovesTheOldOne) {
  ScratchDirectory scratch;
  Model model(tiny_config(GetParam()), 3);
  const State state = model.make_state(1);
  const Progress progress;
  save_model(scratch / "m", model, &state, &progress);
  save_model(scratch / "m", model, nullptr, nullptr);
  const LoadedModel loaded = load_model(scratch / "m");
  EXPECT_FALSE(loaded.state || loaded.progress);
  expect_same_parameters(*loaded.model, model);
}

TEST_P(SavedModel, KeepsNothingBackFromBefore) {
  // Caches made from the weights (bf16 copies, decay matrices) must follow when weights are loaded into the
  // model.
  ScratchDirectory scratch;
  Model model(tiny_config(GetParam()), 3);
  save_model(scratch / "m", model, nullptr, nullptr);
  const LoadedModel loaded = load_model(scratch / "m", 4);
  for (const Parameter& p : loaded.model->parameters().all()) EXPECT_GT(p.version, 1u) << p.name;
  State a = model.make_state(1), b = loaded.model->make_state(1);
  EXPECT_EQ(run(*loaded.model, b, 4), run(model, a, 4));
}

TEST(Directory, StoresPublicNamesAndShapes) {
  ScratchDirectory scratch;
  save_model(scratch / "bdh", Model(tiny_config("bdh")), nullptr, nullptr);
  save_model(scratch / "mamba", Model(tiny_config("mamba")), nullptr, nullptr);
  const auto shapes = [&](const std::string& name) {
    std::map<std::string, std::vector<int64_t>> found;
    const SafetensorsFile file = SafetensorsFile::open(scratch / (name + "/model.safetensors"));
    for (const auto& [key, tensor] : file.tensors()) found[key] = tensor.shape;
    return found;
  };
  EXPECT_EQ(shapes("bdh"), (std::map<std::string, std::vector<int64_t>>{{"encoder", {2, 8, 16}},
                                                                        {"encoder_v", {2, 8, 16}},
                                                                        {"decoder", {32, 8}},
                                                                        {"embed.weight", {256, 8}},
                                                                        {"lm_head", {8, 256}}}));
  const auto mamba = shapes("mamba");
  EXPECT_EQ(mamba.at("backbone.layers.1.mixer.conv1d.weight"), (std::vector<int64_t>{16, 1, 4}));
  EXPECT_EQ(mamba.at("backbone.layers.0.mixer.A_log"), (std::vector<int64_t>{16, 4}));
  EXPECT_TRUE(mamba.contains("backbone.embedding.weight"));
  EXPECT_FALSE(mamba.contains("lm_head.weight"));
}

TEST(Directory, LoadsPresetsAndConfigurationFiles) {
  ScratchDirectory scratch;
  const LoadedModel preset = load_model("mamba-s", 5);
  EXPECT_FALSE(preset.state || preset.progress);
  const std::string path = scratch.write("c.json", find_preset("mamba-s")->json);
  expect_same_parameters(*load_model(path, 5).model, *preset.model);
  expect_contains(message_of([] { load_model("mamba-x"); }), "presets are bdh-s, bdh-25m, ");
  expect_contains(
      message_of([&] { load_model(scratch.write("d.json", R"({"architecture": "mamba", "d_modle": 8})")); }),
      "d.json: unknown key \"d_modle\"; did you mean \"d_model\"?");
  expect_contains(message_of([&] { load_model(scratch.write("e.json", "{")); }), "e.json: line 1, column 2");
  expect_contains(message_of([&] { load_model(scratch.write("f.json", "{}")); }),
                  "f.json: the key \"architecture\"");
  expect_contains(message_of([&] { load_model(scratch.write("g.json", "[]")); }), "must be a JSON object");
  expect_contains(message_of([&] { load_model(scratch.path()); }), "there is no config.json in it");
  expect_contains(message_of([&] { load_model(scratch.write("h", std::string(2 << 20, ' '))); }),
                  "longer than");
}

TEST(Directory, KeepsTheUsersFiles) {
  ScratchDirectory scratch;
  const Model model(tiny_config("mamba"));
  scratch.write("m/tokenizer.json", "mine");
  scratch.write("m/notes/today", "mine, too");
  save_model(scratch / "m", model, nullptr, nullptr);
  save_model(scratch / "m", model, nullptr, nullptr);
  EXPECT_EQ(scratch.read("m/tokenizer.json"), "mine");
  EXPECT_EQ(scratch.read("m/notes/today"), "mine, too");
  EXPECT_EQ(FileSystem::real().names(scratch / "m"),
            (std::vector<std::string>{"config.json", "model.safetensors", "notes", "tokenizer.json"}));
}

TEST(Directory, RefusesFilesOfDifferentSaves) {
  ScratchDirectory scratch;
  Model model(tiny_config("mamba"));
  const State state = model.make_state(1);
  const Progress progress;
  for (const char* name : {"a", "b"}) save_model(scratch / name, model, &state, &progress);
  for (const char* file : {"state.safetensors", "optimizer.safetensors"}) {
    const std::string own = scratch.read(std::string("a/") + file);
    scratch.write(std::string("a/") + file, scratch.read(std::string("b/") + file));
    expect_contains(message_of([&] { load_model(scratch / "a"); }),
                    std::string(file) + ": it does not belong to");
    scratch.write(std::string("a/") + file, own);
  }
  EXPECT_TRUE(load_model(scratch / "a").state);
}

// Puts `number` where the file holds kMark.
constexpr float kMark = 1234.5f;
void replace_mark(const ScratchDirectory& scratch, const std::string& file, float number) {
  const auto bytes_of = [](float x) { return std::string(reinterpret_cast<const char*>(&x), sizeof(x)); };
  std::string bytes = scratch.read(file);
  bytes.replace(bytes.find(bytes_of(kMark)), sizeof(float), bytes_of(number));
  scratch.write(file, bytes);
}

TEST(Directory, EveryStatedFaultOfAStateIsRefused) {
  ScratchDirectory scratch;
  Model model(tiny_config("mamba"));
  State state = model.make_state(2);
  const auto message = [&] { return message_of([&] { load_model(scratch / "m"); }); };
  const auto save = [&] { save_model(scratch / "m", model, &state, nullptr); };
  state.tensors[1].value.f32()[3] = kMark;
  save();
  replace_mark(scratch, "m/state.safetensors", std::nanf(""));
  expect_contains(message(), "\"layers.0.ssm\" holds a NaN");
  state.tensors[1].value.f32()[3] = 0;
  state.positions = {1};
  save();
  expect_contains(message(), "bytes for 1 streams");
  state.positions = {};
  save();
  expect_contains(message(), "its positions are []");
  state.positions = {1, -1};
  save();
  expect_contains(message(), "its positions are -1");
  state.positions = {1, 1};
  std::swap(state.tensors[0].name, state.tensors[1].name);
  save();
  expect_contains(message(), "remove the file to begin anew");
}

TEST(Directory, EveryStatedFaultOfWeightsAndMomentsIsRefused) {
  ScratchDirectory scratch;
  Model model(tiny_config("mamba"));
  fill_moments(model);
  Progress progress;
  const auto message = [&] {
    save_model(scratch / "m", model, nullptr, &progress);
    return message_of([&] { load_model(scratch / "m"); });
  };
  Parameter& p = model.parameters().all()[2];
  p.value.f32()[0] = kMark;
  save_model(scratch / "m", model, nullptr, &progress);
  replace_mark(scratch, "m/model.safetensors", std::numeric_limits<float>::infinity());
  expect_contains(message_of([&] { load_model(scratch / "m"); }), "holds a NaN or an infinity");
  p.moment2.f32()[1] = -1;
  expect_contains(message(), p.name + ".v\" is negative");
  p.moment2.f32()[1] = 0;
  progress.steps = -1;
  expect_contains(message(), "its steps are -1");
  progress.steps = 1;
  for (Tensor* moment : {&p.moment1, &p.moment2}) {
    const Tensor kept = std::exchange(*moment, Tensor());
    expect_contains(message(), p.name + "\" has one moment without the other");
    *moment = kept;
  }
}

// Whatever has diverged, the last good save is what one goes back to.
TEST(Directory, NumbersThatAreNoneDoNotReplaceASave) {
  ScratchDirectory scratch;
  Model model(tiny_config("mamba"), 1);
  fill_moments(model);
  State state = model.make_state(1);
  const Progress progress{.steps = 3, .extra = nullptr};
  save_model(scratch / "m", model, &state, &progress);
  const std::string before = scratch.read("m/model.safetensors");
  Parameter& p = model.parameters().all()[2];
  for (Tensor* spoilt : {&p.value, &p.moment1, &p.moment2, &state.tensors[1].value}) {
    for (const float none : {std::nanf(""), -std::nanf(""), std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity()}) {
      for (const int64_t at : {int64_t(0), spoilt->size() / 2, spoilt->size() - 1}) {
        const float good = std::exchange(spoilt->f32()[at], none);
        expect_contains(message_of([&] { save_model(scratch / "m", model, &state, &progress); }),
                        "holds a NaN or an infinity; nothing was saved");
        spoilt->f32()[at] = good;
      }
    }
  }
  EXPECT_TRUE(scratch.read("m/model.safetensors") == before);
  EXPECT_EQ(load_model(scratch / "m").progress->steps, 3);
  p.value.f32()[0] = std::numeric_limits<float>::max();
  p.value.f32()[1] = std::numeric_limits<float>::denorm_min();
  EXPECT_NO_THROW(save_model(scratch / "m", model, &state, &progress));
}

TEST(Directory, KnowsBeforehandWhetherItCanBeWritten) {
  ScratchDirectory scratch;
  EXPECT_FALSE(holds_model(scratch / "a/m"));
  check_writable(scratch / "a/m");
  EXPECT_FALSE(holds_model(scratch / "a/m"));
  EXPECT_TRUE(FileSystem::real().names(scratch / "a/m").empty());
  save_model(scratch / "a/m", Model(tiny_config("mamba")), nullptr, nullptr);
  EXPECT_TRUE(holds_model(scratch / "a/m"));
  const std::string before = scratch.read("a/m/model.safetensors");
  check_writable(scratch / "a/m");
  EXPECT_TRUE(scratch.read("a/m/model.safetensors") == before);
  expect_contains(message_of([&] { check_writable(scratch / "a/m/config.json/m"); }), "config.json");
}

TEST(Presets, AreTheSizesTheyPromise) {
  const auto count = [](const char* name) {
    return Model(json::parse(find_preset(name)->json)).parameter_count();
  };
  EXPECT_EQ(count("bdh-s"), 425984);
  EXPECT_EQ(count("mamba-s"), 499328);
  EXPECT_EQ(count("mamba-1m"), 1056192);
  EXPECT_EQ(count("mamba-2m"), 2063040);
  EXPECT_EQ(count("transformer-s"), 517152);
  EXPECT_EQ(find_preset("none"), nullptr);
  for (const Preset& preset : presets()) EXPECT_NO_THROW(parse_json(preset.json, preset.name));
}

}  // namespace
}  // namespace brood
