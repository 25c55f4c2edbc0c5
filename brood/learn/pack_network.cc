#include "brood/learn/pack_network.h"

#include <utility>

#include "brood/base/hash.h"
#include "brood/base/json.h"
#include "brood/kernels/machine.h"
#include "brood/model/presets.h"

namespace brood {

namespace {

// What a sum of floats depends on beside the numbers: the width of its lanes, the library of products and how
// all was compiled. The first stands there by name, as it can be chosen.
std::string arithmetic_here() {
  const std::string rest = kernels::product_library() + __VERSION__;
  return fmt::format("{}-{:08x}", kernels::simd_target(),
                     uint32_t(content_hash(std::as_bytes(std::span(rest)))));
}

uint64_t hash(uint64_t before, std::span<const std::byte> bytes) {
  const uint64_t both[] = {before, content_hash(bytes)};
  return content_hash(std::as_bytes(std::span(both)));
}

// Of everything that its predictions follow from: configuration, weights and what the optimiser remembers.
uint64_t fingerprint(const Model& model, int64_t updates) {
  const std::string config = model.config().dump();
  uint64_t sum = hash(uint64_t(updates), std::as_bytes(std::span(config)));
  for (const Parameter& p : model.parameters().all()) {
    for (const Tensor* tensor : {&p.value, &p.moment1, &p.moment2}) {
      if (tensor != &p.value && (updates == 0 || !tensor->data())) continue;
      sum = hash(sum, std::as_bytes(std::span(tensor->f32(), size_t(tensor->size()))));
    }
  }
  return sum;
}

}  // namespace

LiveSettings packing_settings() {
  LiveSettings settings;
  settings.chunk = 16;
  settings.optimiser.learning_rate = 2e-3;
  settings.rehearsals = 0;
  return settings;
}

PackNetwork::PackNetwork(LoadedModel loaded, std::string name)
    : name_(std::move(name)), model_(std::move(loaded.model)) {
  const int64_t known = model_->frame().vocab_size;
  if (known < 256)
    fail("packing bytes: the model knows {} tokens; set its \"vocab_size\" to 256 or more", known);
  network_ = std::make_unique<ByteNetwork>(*model_, packing_settings());
  if (loaded.progress && loaded.progress->extra.contains("live"))
    network_->restore_optimiser(loaded.progress->extra["live"]);
  fingerprint_ = fingerprint(*model_, network_->learner().updates());
}

PackNetwork PackNetwork::anew(const std::string& preset_or_json) {
  const Preset* preset = find_preset(preset_or_json);
  LoadedModel made;
  made.model =
      std::make_unique<Model>(parse_json(preset ? preset->json : preset_or_json, "the model to pack with"));
  return PackNetwork(std::move(made), preset_or_json);
}

PackNetwork PackNetwork::trained(LoadedModel loaded) {
  return PackNetwork(std::move(loaded), kTrainedNetwork);
}

void PackNetwork::describe(PackModel& model) const {
  model.network = name_;
  model.fingerprint = fingerprint_;
  model.arithmetic = arithmetic_here();
}

void PackNetwork::require_same(const PackModel& model) const {
  if (model.arithmetic != arithmetic_here())
    fail(
        "unpack: the file was packed with the arithmetic {} and this is {} (SIMD target, libraries and "
        "compiler "
        "in one); unpack it where both are the same, BROOD_SIMD chooses the target",
        model.arithmetic, arithmetic_here());
  if (model.fingerprint != fingerprint_)
    fail("unpack: the file was packed with another model than this one; name that one by --model");
}

}  // namespace brood
