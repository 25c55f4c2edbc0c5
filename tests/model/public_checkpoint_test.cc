// Checkpoints as other software writes them.
#include <gtest/gtest.h>

#include <map>

#include "brood/base/json.h"
#include "brood/model/directory.h"
#include "brood/model/public_config.h"
#include "brood/model/safetensors.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"
#include "tests/fixture/tiny_models.h"

namespace brood {
namespace {

using nlohmann::json;

// Of mamba-130m-hf, as far as it concerns us, with tiny sizes.
json hugging_face_config() {
  return {{"architectures", {"MambaForCausalLM"}},
          {"model_type", "mamba"},
          {"hidden_size", 8},
          {"d_model", 8},
          {"intermediate_size", 16},
          {"expand", 2},
          {"num_hidden_layers", 2},
          {"n_layer", 2},
          {"state_size", 4},
          {"conv_kernel", 4},
          {"time_step_rank", 1},
          {"time_step_scale", 1.0},
          {"hidden_act", "silu"},
          {"layer_norm_epsilon", 1e-5},
          {"rms_norm", true},
          {"residual_in_fp32", true},
          {"use_bias", false},
          {"use_conv_bias", true},
          {"vocab_size", 256},
          {"pad_vocab_size_multiple", 8},
          {"bos_token_id", 0},
          {"ssm_cfg", json::object()},
          {"torch_dtype", "float32"}};
}

json state_spaces_config() {
  return {{"d_model", 8},           {"n_layer", 2},
          {"vocab_size", 253},      {"ssm_cfg", {{"d_state", 4}}},
          {"rms_norm", true},       {"residual_in_fp32", true},
          {"fused_add_norm", true}, {"pad_vocab_size_multiple", 8}};
}

// A model's own weights, to be written as somebody else would.
class Foreign {
 public:
  explicit Foreign(const std::string& architecture) : model_(tiny_config(architecture), 3) {
    save_model(scratch_ / "own", model_, nullptr, nullptr);
    const SafetensorsFile own = SafetensorsFile::open(scratch_ / "own/model.safetensors");
    for (const auto& [name, tensor] : own.tensors()) {
      std::vector<float>& values = values_[name];
      values.resize(size_t(tensor.size()));
      own.read_f32(name, values);
      tensors[name] = {name, Dtype::kF32, tensor.shape, values.data()};
    }
    config = json::parse(scratch_.read("own/config.json"));
  }
  LoadedModel load() {
    std::vector<TensorToWrite> list;
    for (auto& [name, tensor] : tensors) {
      list.push_back(tensor);
      list.back().name = name;
    }
    std::filesystem::create_directories(scratch_ / "m");
    write_safetensors(scratch_ / "m/model.safetensors", list, {});
    scratch_.write("m/config.json", config.dump());
    return load_model(scratch_ / "m");
  }
  std::string message() {
    return message_of([&] { load(); });
  }
  void rename(const std::string& from, const std::string& to) {
    auto node = tensors.extract(from);
    node.key() = to;
    tensors.insert(std::move(node));
  }
  // Appends rows of a value that would show.
  void pad_rows(const std::string& name, int64_t rows) {
    TensorToWrite& tensor = tensors[name];
    tensor.shape[0] += rows;
    values_[name].resize(size_t(tensor.shape[0] * tensor.shape[1]), 1e30f);
    tensor.data = values_[name].data();
  }

  json config;
  std::map<std::string, TensorToWrite> tensors;
  Model& model() { return model_; }

 private:
  ScratchDirectory scratch_;
  Model model_;
  std::map<std::string, std::vector<float>> values_;
};

TEST(PublicConfig, TranslatesMamba) {
  const json wanted = {{"architecture", "mamba"},
                       {"vocab_size", 256},
                       {"d_model", 8},
                       {"n_layer", 2},
                       {"d_state", 4},
                       {"d_conv", 4},
                       {"expand", 2},
                       {"dt_rank", 1},
                       {"norm_eps", 1e-5},
                       {"tie_embeddings", true}};
  EXPECT_EQ(import_config(hugging_face_config(), "c"), wanted);
  json automatic = hugging_face_config();
  automatic["time_step_rank"] = "auto";
  EXPECT_EQ(import_config(automatic, "c")["dt_rank"], 0);
  const json original = import_config(state_spaces_config(), "c");
  EXPECT_EQ(original["d_state"], 4);
  EXPECT_EQ(original["vocab_size"], 253);
  const json own = {{"architecture", "x"}, {"model_type", "mamba"}};
  EXPECT_EQ(import_config(own, "c"), own);
  const json hatchling = {{"model_type", "bdh"},
                          {"n_layer", 3},
                          {"n_embd", 32},
                          {"n_head", 2},
                          {"mlp_internal_dim_multiplier", 8}};
  const json translated = import_config(hatchling, "c");
  EXPECT_EQ(translated["n_neuron"], 256);
  EXPECT_EQ(translated["d_model"], 32);
  EXPECT_EQ(translated["vocab_size"], 256);
}

TEST(PublicConfig, TranslatesMamba2) {
  const json hf = {{"model_type", "mamba2"},
                   {"hidden_size", 16},
                   {"num_hidden_layers", 2},
                   {"state_size", 8},
                   {"num_heads", 8},
                   {"head_dim", 4},
                   {"n_groups", 2},
                   {"vocab_size", 64},
                   {"expand", 2},
                   {"time_step_limit", {0.0, 1e300}}};
  const json own = import_config(hf, "c");
  EXPECT_EQ(own["architecture"], "mamba2");
  EXPECT_EQ(own["n_groups"], 2);
  EXPECT_EQ(own["tie_embeddings"], false);
  EXPECT_EQ(Model(own).config()["head_dim"], 4);
  const json original = {{"d_model", 768}, {"n_layer", 24}, {"ssm_cfg", {{"layer", "Mamba2"}}}};
  EXPECT_EQ(import_config(original, "c")["d_state"], 128);
  EXPECT_EQ(import_config(original, "c")["head_dim"], 64);
  const auto with = [&](const char* key, json value) {
    json config = hf;
    config[key] = std::move(value);
    return message_of([&] { import_config(config, "c.json"); });
  };
  expect_contains(with("num_heads", 7), "num_heads·head_dim is 28, but expand·hidden_size is 32");
  expect_contains(with("time_step_limit", {0.001, 0.1}), "time_step_limit is [0.001,0.1]");
  expect_contains(with("time_step_limit", {0.001, "inf"}), "time_step_limit is [0.001,\"inf\"]");
  expect_contains(with("time_step_limit", {0, "banana"}), "time_step_limit is [0,\"banana\"]");
  const json tagged = json::array({0.0, {{"__float__", "Infinity"}}});
  json config = hf;
  config["time_step_limit"] = tagged;
  EXPECT_EQ(import_config(config, "c"), own);
}

// As Python writes it.
TEST(PublicConfig, ReadsABareInfinity) {
  const auto text = [](const std::string& limit, const std::string& act = "silu") {
    return R"({"model_type": "mamba2", "hidden_size": 8, "num_heads": 2, "head_dim": 8, "hidden_act": ")" +
           act + "\",\n \"time_step_limit\": " + limit + "}";
  };
  EXPECT_EQ(import_config_text(text("[0.0, Infinity]"), "c"), import_config_text(text("null"), "c"));
  const auto message = [&](const std::string& limit, const std::string& act = "silu") {
    return message_of([&] { import_config_text(text(limit, act), "c.json"); });
  };
  expect_contains(message("[0.0, -Infinity]"), "c.json: line 2, column 28 is not JSON");
  expect_contains(message("[Infinity, Infinity]"), "time_step_limit is [\"inf\",\"inf\"]");
  expect_contains(message("[0.0, Infinity, Infinitely]"), "c.json: line 2, column 37 is not JSON");
  // Within a text it is a text, however the text is quoted.
  expect_contains(message("null", "Infinity"), "hidden_act is \"Infinity\"");
  expect_contains(message("null", R"(a\"Infinity)"), R"(hidden_act is "a\"Infinity")");
  expect_contains(message("[0.0, Infinity]", R"(a\\)"), R"(hidden_act is "a\\")");
  expect_contains(message_of([] { import_config_text(R"({"architecture": "x", "y": "\)", "c.json"); }),
                  "is not JSON");
}

TEST(PublicConfig, TranslatesRwkv) {
  const json fourth = {{"model_type", "rwkv"},
                       {"hidden_size", 8},
                       {"num_hidden_layers", 2},
                       {"vocab_size", 64},
                       {"intermediate_size", nullptr},
                       {"attention_hidden_size", 8},
                       {"rescale_every", 6}};
  EXPECT_EQ(import_config(fourth, "c")["architecture"], "rwkv4");
  EXPECT_EQ(import_config(fourth, "c")["d_ff"], 32);
  EXPECT_EQ(Model(import_config(fourth, "c")).config()["norm"], "layer");
  const json seventh = {{"model_type", "rwkv7"},   {"hidden_size", 16},       {"num_hidden_layers", 2},
                        {"vocab_size", 64},        {"head_dim", 8},           {"num_heads", nullptr},
                        {"hidden_ratio", 4.0},     {"intermediate_size", 64}, {"value_dim", {16, 16}},
                        {"decay_low_rank_dim", 4}, {"a_low_rank_dim", 4},     {"v_low_rank_dim", nullptr},
                        {"gate_low_rank_dim", 8},  {"hidden_act", "sqrelu"},  {"norm_first", true},
                        {"norm_eps", 1e-5},        {"attn", nullptr}};
  const json own = import_config(seventh, "c");
  EXPECT_EQ(own["d_ff"], 64);
  EXPECT_EQ(own["head_dim"], 8);
  EXPECT_EQ(own["v_low_rank_dim"], 0);
  Model model(own);
  EXPECT_NE(model.parameters().find("model.layers.1.attn.v_lora.lora.2.bias"), nullptr);
  EXPECT_EQ(model.parameters().find("model.layers.0.attn.v_lora.lora.2.bias"), nullptr);
  const auto with = [](json config, const char* key, json value) {
    config[key] = std::move(value);
    return message_of([&] { import_config(config, "c.json"); });
  };
  expect_contains(with(fourth, "attention_hidden_size", 16), "attention_hidden_size is not hidden_size");
  expect_contains(with(seventh, "attn", {{"layers", {1}}}), "only RWKV-7 without attention layers");
  expect_contains(with(seventh, "value_dim", {16, 32}), "value_dim is [16,32]");
  expect_contains(with(seventh, "norm_bias", false), "norm_bias is false");
  expect_contains(with(seventh, "hidden_act", "silu"), "hidden_act is \"silu\"");
}

TEST(PublicConfig, RefusesVariants) {
  const auto with = [](json config, const char* key, json value) {
    config[key] = std::move(value);
    return message_of([&] { import_config(config, "c.json"); });
  };
  const json hf = hugging_face_config(), original = state_spaces_config();
  expect_contains(with(hf, "model_type", "mamba9"), "c.json: model_type is \"mamba9\"");
  expect_contains(with(hf, "use_bias", true), "use_bias is true");
  expect_contains(with(hf, "use_conv_bias", false), "use_conv_bias is false");
  expect_contains(with(hf, "hidden_act", "relu"), "hidden_act is \"relu\"");
  expect_contains(with(hf, "intermediate_size", 17), "intermediate_size 17 is not a multiple");
  expect_contains(with(hf, "rms_norm", false), "rms_norm is false");
  expect_contains(with(hf, "hidden_size", "8"), "hidden_size is \"8\"");
  expect_contains(with(original, "ssm_cfg", {{"layer", "Mamba9"}}), "layer \"Mamba9\"");
  expect_contains(with(original, "ssm_cfg", 3), "ssm_cfg: must be a JSON object");
  expect_contains(with(original, "d_intermediate", 64), "d_intermediate is not 0");
  expect_contains(with(original, "attn_layer_idx", {1}), "attn_layer_idx is not empty");
  expect_contains(message_of([] { import_config(json::array(), "c.json"); }),
                  "c.json: must be a JSON object");
}

TEST(PublicCheckpoint, HuggingFaceMambaLoadsUnchanged) {
  Foreign foreign("mamba");
  foreign.config = hugging_face_config();
  foreign.rename("backbone.embedding.weight", "backbone.embeddings.weight");
  expect_same_parameters(*foreign.load().model, foreign.model());
  // Some files repeat the tied head.
  foreign.tensors["lm_head.weight"] = foreign.tensors["backbone.embeddings.weight"];
  expect_same_parameters(*foreign.load().model, foreign.model());
  const std::vector<float> other(256 * 8);
  foreign.tensors["lm_head.weight"].data = other.data();
  expect_contains(foreign.message(), "\"lm_head.weight\" differs from the embedding");
}

TEST(PublicCheckpoint, RwkvLoadsUnchanged) {
  Foreign seventh("rwkv7");
  seventh.config = {{"model_type", "rwkv7"}, {"hidden_size", 8}, {"num_hidden_layers", 2}, {"head_dim", 8},
                    {"vocab_size", 256},     {"attn", nullptr},  {"norm_first", true}};
  expect_same_parameters(*seventh.load().model, seventh.model());
  // As the library wrote it at first: six shares in one tensor.
  std::vector<std::vector<float>> fused(2);
  for (size_t layer = 0; layer < 2; ++layer) {
    const std::string group = fmt::format("model.layers.{}.attn.x_", layer);
    for (const char* share : {"r", "w", "k", "v", "a", "g"}) {
      const auto node = seventh.tensors.extract(group + share);
      const auto* from = static_cast<const float*>(node.mapped().data);
      fused[layer].insert(fused[layer].end(), from, from + 8);
    }
    seventh.tensors[group + "x"] = {"", Dtype::kF32, {6, 8}, fused[layer].data()};
  }
  expect_same_parameters(*seventh.load().model, seventh.model());
  seventh.tensors["model.layers.1.attn.x_x"].shape = {8, 6};
  expect_contains(seventh.message(), "attn.x_x\" has the shape [8,6], but config.json needs [6,8]");

  Foreign fourth("rwkv4");
  fourth.config = {{"model_type", "rwkv"}, {"hidden_size", 8}, {"num_hidden_layers", 2}, {"vocab_size", 256}};
  expect_same_parameters(*fourth.load().model, fourth.model());
}

TEST(PublicCheckpoint, PaddingOfTheVocabularyIsDropped) {
  Foreign foreign("mamba");
  const std::string embedding = "backbone.embedding.weight";
  foreign.pad_rows(embedding, 24);
  expect_same_parameters(*foreign.load().model, foreign.model());
  foreign.tensors["lm_head.weight"] = foreign.tensors[embedding];
  expect_same_parameters(*foreign.load().model, foreign.model());
  foreign.config["vocab_size"] = 300;  // more than the 280 rows there are
  EXPECT_EQ(foreign.load().model->frame().vocab_size, 280);
  foreign.config["vocab_size"] = 100;
  expect_contains(foreign.message(), "has the shape [280,8], but config.json needs [100,8]");
  foreign.config["vocab_size"] = 1000;
  expect_contains(foreign.message(), "has the shape [280,8], but config.json needs [1000,8]");
}

TEST(PublicCheckpoint, BdhLoadsUnchanged) {
  Foreign foreign("bdh");
  const std::vector<float> frequencies(16);
  foreign.tensors["attn.freqs"] = {"", Dtype::kF32, {1, 1, 1, 16}, frequencies.data()};
  expect_same_parameters(*foreign.load().model, foreign.model());
  // The public layout, element by element: encoder[h][d][n] is the weight from feature d to neuron n of head
  // h.
  const auto* encoder = static_cast<const float*>(foreign.tensors["encoder"].data);
  const Parameter* ours = foreign.model().parameters().find("encoder");
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t d = 0; d < 8; ++d)
      for (int64_t n = 0; n < 16; ++n)
        EXPECT_EQ(encoder[(h * 8 + d) * 16 + n], ours->value.f32()[(h * 16 + n) * 8 + d]);
}

TEST(PublicCheckpoint, RefusesWhatDoesNotFit) {
  {
    Foreign foreign("mamba");
    foreign.tensors.erase("backbone.layers.1.mixer.D");
    expect_contains(foreign.message(), "the tensor \"backbone.layers.1.mixer.D\" is missing");
  }
  {
    Foreign foreign("mamba");
    foreign.tensors.erase("backbone.embedding.weight");
    expect_contains(foreign.message(), "the tensor \"backbone.embedding.weight\" is missing");
  }
  {
    Foreign foreign("mamba");
    foreign.tensors["surprise"] = foreign.tensors["backbone.norm_f.weight"];
    expect_contains(foreign.message(), "the tensor \"surprise\" belongs to no part");
  }
  {
    Foreign foreign("mamba");
    foreign.config["d_state"] = 5;
    expect_contains(foreign.message(), ", but config.json needs [");
  }
  {
    Foreign foreign("mamba");
    std::swap(foreign.tensors["backbone.layers.0.mixer.out_proj.weight"].shape[0],
              foreign.tensors["backbone.layers.0.mixer.out_proj.weight"].shape[1]);
    expect_contains(foreign.message(),
                    "out_proj.weight\" has the shape [16,8], but config.json needs [8,16]");
  }
}

}  // namespace
}  // namespace brood
