#include "brood/model/directory.h"

#include <filesystem>
#include <random>

#include "brood/base/directory_update.h"
#include "brood/base/file.h"
#include "brood/base/json.h"
#include "brood/model/checkpoint.h"
#include "brood/model/presets.h"
#include "brood/model/public_config.h"
#include "brood/model/rwkv_weights.h"
#include "brood/model/safetensors.h"

namespace brood {

namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kWeights = "model.safetensors";
constexpr const char* kState = "state.safetensors";
constexpr const char* kOptimiser = "optimizer.safetensors";
constexpr const char* kMemory = "memory.safetensors";
constexpr const char* kRehearsal = "rehearsal.safetensors";

const std::vector<std::string> kMembers = {kConfig, kWeights, kState, kOptimiser, kMemory, kRehearsal};

constexpr int64_t kLongestConfig = 1 << 20;

// From the system, not from the model's seed: two runs with one seed are still two saves.
std::string new_save_id() {
  std::random_device device;
  std::string id;
  for (int i = 0; i < 4; ++i) id += fmt::format("{:08x}", device());
  return id;
}

void write_text(const std::string& path, const std::string& text, FileSystem& files) {
  const auto file = files.create(path);
  file->append(std::as_bytes(std::span(text)));
  file->sync();
  file->close();
}

nlohmann::json read_config(const std::string& path) {
  return import_config_text(read_file(path, kLongestConfig), path);
}

// Errors of the model's own reading begin with "config: "; here it has a name.
std::unique_ptr<Model> make_model(const nlohmann::json& config, const std::string& source, uint64_t seed) {
  try {
    return std::make_unique<Model>(config, seed);
  } catch (const Error& error) {
    const std::string sentence = error.what();
    fail("{}: {}", source, sentence.starts_with("config: ") ? sentence.substr(8) : sentence);
  }
}

// A file may hold fewer rows than the configuration's rounded-up vocabulary; then the rows count.
void fit_vocabulary(nlohmann::json& config, const std::string& source, const SafetensorsFile& weights) {
  Settings settings(config, source);
  const std::string architecture = settings.text("architecture", "");
  if (architecture.empty()) return;  // the model will say so
  const Frame frame = find_architecture(architecture).frame(settings);
  const int64_t rows = stored_vocabulary(weights, frame.embedding_name);
  if (rows > 0 && rows < frame.vocab_size && frame.vocab_size - rows <= kMostPadding)
    config["vocab_size"] = rows;
}

void check_same_save(const SafetensorsFile& weights, const SafetensorsFile& other) {
  if (save_id_of(weights) != save_id_of(other))
    fail("{}: it does not belong to {}, which was replaced without it; remove it to go on with those weights",
         other.name(), weights.name());
}

LoadedModel load_directory(const std::string& directory, uint64_t seed) {
  const DirectorySnapshot snapshot(directory, FileSystem::real());
  for (const char* needed : {kConfig, kWeights})
    if (!snapshot.has(needed))
      fail("loading {}: there is no {} in it; name a model directory", directory, needed);
  const std::string config_path = snapshot.path(kConfig);
  const nlohmann::json found = parse_config_text(read_file(config_path, kLongestConfig), config_path);
  nlohmann::json config = import_config(found, config_path);
  const SafetensorsFile weights = SafetensorsFile::open(snapshot.path(kWeights));
  fit_vocabulary(config, config_path, weights);

  LoadedModel loaded;
  loaded.is_public = !found.contains("architecture");
  loaded.model = make_model(config, config_path, seed);
  read_weights(weights, *loaded.model);
  if (snapshot.has(kState)) {
    const SafetensorsFile file = SafetensorsFile::open(snapshot.path(kState));
    check_same_save(weights, file);
    loaded.state = read_state(file, *loaded.model);
  }
  if (snapshot.has(kOptimiser)) {
    const SafetensorsFile file = SafetensorsFile::open(snapshot.path(kOptimiser));
    check_same_save(weights, file);
    loaded.progress = read_optimiser(file, *loaded.model);
  }
  const auto beside = [&](const char* name) -> std::unique_ptr<SafetensorsFile> {
    if (!snapshot.has(name)) return nullptr;
    auto file = std::make_unique<SafetensorsFile>(SafetensorsFile::open(snapshot.path(name)));
    check_same_save(weights, *file);
    return file;
  };
  loaded.memory = beside(kMemory);
  loaded.rehearsal = beside(kRehearsal);
  return loaded;
}

[[noreturn]] void fail_unknown(const std::string& name) {
  std::string known;
  for (const Preset& preset : presets()) known += fmt::format("{}{}", known.empty() ? "" : ", ", preset.name);
  fail("loading {}: there is no such model directory, configuration file or preset; presets are {}", name,
       known);
}

}  // namespace

void save_model(const std::string& directory, const Model& model, const State* state,
                const Progress* progress, FileSystem& files, const MemoryWriter& memory,
                const MemoryWriter& rehearsal) {
  const std::string id = new_save_id();
  DirectoryUpdate update(directory, kMembers, files);
  write_text(update.path(kConfig), model.config().dump(2) + "\n", files);
  write_weights(update.path(kWeights), model, id, files);
  if (state) write_state(update.path(kState), *state, {{kSave, id}}, files);
  if (progress) write_optimiser(update.path(kOptimiser), model, *progress, id, files);
  if (memory) memory(update.path(kMemory), id, files);
  if (rehearsal) rehearsal(update.path(kRehearsal), id, files);
  update.commit();
}

void check_writable(const std::string& directory, FileSystem& files) {
  const DirectoryUpdate unused(directory, kMembers, files);
}

bool holds_model(const std::string& directory) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored)) return false;
  const DirectorySnapshot snapshot(directory, FileSystem::real());
  return snapshot.has(kConfig) || snapshot.has(kWeights);
}

nlohmann::json load_config(const std::string& preset_or_config) {
  const std::string& name = preset_or_config;
  std::error_code ignored;
  if (std::filesystem::exists(name, ignored)) return read_config(name);
  if (const Preset* preset = find_preset(name)) return parse_json(preset->json, name);
  fail_unknown(name);
}

LoadedModel load_model(const std::string& preset_config_or_directory, uint64_t seed) {
  const std::string& name = preset_config_or_directory;
  std::error_code ignored;
  if (std::filesystem::is_directory(name, ignored)) return load_directory(name, seed);
  LoadedModel loaded;
  if (RwkvFile::is_one(name)) {
    const RwkvFile file = RwkvFile::open(name);
    loaded.model = make_model(file.config(), name, seed);
    read_weights(file, *loaded.model);
  } else {
    loaded.model = make_model(load_config(name), name, seed);
  }
  return loaded;
}

}  // namespace brood
