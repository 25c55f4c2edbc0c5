// The network that takes part in packing: made anew from a configuration that stands in the packed file, or a
// trained model that both sides must have.
#pragma once

#include <memory>
#include <string>

#include "brood/learn/byte_network.h"
#include "brood/learn/pack.h"
#include "brood/model/directory.h"

namespace brood {

// How it learns while it packs: part of the format.
LiveSettings packing_settings();

class PackNetwork {
 public:
  // From nothing: a preset's name, or a configuration in JSON. Throws Error when there is no such model, or
  // its vocabulary has no room for bytes.
  static PackNetwork anew(const std::string& preset_or_json);
  // A trained model, whose stream begins anew; its weights change.
  static PackNetwork trained(LoadedModel loaded);

  ByteOpinion* opinion() { return network_.get(); }
  // Writes itself down in what a packed file begins with.
  void describe(PackModel& model) const;
  // Throws Error when this is not the network that the file was packed with, or is computed otherwise here.
  void require_same(const PackModel& model) const;

 private:
  PackNetwork(LoadedModel loaded, std::string name);

  std::string name_;
  uint64_t fingerprint_ = 0;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ByteNetwork> network_;
};

// What a packed file calls a trained model, which it cannot hold.
constexpr const char* kTrainedNetwork = "*";

}  // namespace brood
