#include "brood/model/presets.h"

namespace brood {

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = {
      {"bdh-s", "Dragon Hatchling, 0.43 M parameters, bytes",
       R"({"architecture": "bdh", "d_model": 64, "n_neuron": 2048, "n_head": 4, "n_layer": 4})"},
      {"bdh-25m", "Dragon Hatchling as its authors published it, 25.3 M parameters, bytes",
       R"({"architecture": "bdh", "d_model": 256, "n_neuron": 32768, "n_head": 4, "n_layer": 6, "dropout": 0.1})"},
      {"gated_deltanet-s", "Gated DeltaNet, 0.5 M parameters, bytes",
       R"({"architecture": "gated_deltanet", "d_model": 96, "n_layer": 4, "n_head": 3, "allow_neg_eigval": true})"},
      {"mamba-xs", "Mamba-1, 0.08 M parameters, bytes: the network that packs",
       R"({"architecture": "mamba", "d_model": 64, "n_layer": 2})"},
      {"mamba-s", "Mamba-1, 0.5 M parameters, bytes: a first model for a stream",
       R"({"architecture": "mamba", "d_model": 128, "n_layer": 4})"},
      {"mamba-1m", "Mamba-1, 1.1 M parameters, bytes",
       R"({"architecture": "mamba", "d_model": 192, "n_layer": 4})"},
      {"mamba-2m", "Mamba-1, 2.1 M parameters, bytes",
       R"({"architecture": "mamba", "d_model": 192, "n_layer": 8})"},
      {"mamba-130m", "Mamba-1 of the published 130 M size, vocabulary of GPT-NeoX",
       R"({"architecture": "mamba", "d_model": 768, "n_layer": 24, "vocab_size": 50280})"},
      {"mamba2-s", "Mamba-2, 0.5 M parameters, bytes",
       R"({"architecture": "mamba2", "d_model": 128, "n_layer": 4, "d_state": 64})"},
      {"mamba3-s", "Mamba-3, 0.5 M parameters, bytes",
       R"({"architecture": "mamba3", "d_model": 128, "n_layer": 4, "d_state": 64})"},
      {"mcsd-s", "MCSD (Yan) as reconstructed, 0.5 M parameters, bytes",
       R"({"architecture": "mcsd", "d_model": 120, "n_layer": 3})"},
      {"mingru-s", "minGRU with a gate for 16 channels, 0.5 M parameters, bytes",
       R"({"architecture": "mingru", "d_model": 96, "n_layer": 5, "n_head": 6})"},
      {"retention-s", "Retention, 0.5 M parameters, bytes",
       R"({"architecture": "retention", "d_model": 96, "n_layer": 3, "n_head": 3})"},
      {"rwkv4-s", "RWKV-4, 0.5 M parameters, bytes",
       R"({"architecture": "rwkv4", "d_model": 96, "n_layer": 4})"},
      {"rwkv7-s", "RWKV-7, 0.5 M parameters, bytes",
       R"({"architecture": "rwkv7", "d_model": 96, "n_layer": 3})"},
      {"rwkv7-191m", "RWKV-7 of the published 0.1B size, 191 M parameters, vocabulary of RWKV World",
       R"({"architecture": "rwkv7", "d_model": 768, "n_layer": 12, "vocab_size": 65536})"},
      {"s4d-s", "S4D, 0.5 M parameters, bytes", R"({"architecture": "s4d", "d_model": 160, "n_layer": 6})"},
      {"selected-s", "selected neurons on MCSD (Yan's two ideas as reconstructed), 0.5 M parameters, bytes",
       R"({"architecture": "mcsd", "d_model": 120, "n_layer": 3, "feed": "selected"})"},
      {"switch-s", "a Transformer of 8 experts a layer: 0.5 M parameters a byte of 3.1 M in all",
       R"({"architecture": "transformer", "d_model": 96, "n_head": 3, "n_layer": 5, "feed": "switch", "n_expert": 8})"},
      {"transformer-s", "Transformer baseline, 0.5 M parameters, bytes",
       R"({"architecture": "transformer", "d_model": 96, "n_head": 3, "n_layer": 5})"},
      {"transformer-130m", "Transformer baseline as wide as mamba-130m, vocabulary of GPT-NeoX",
       R"({"architecture": "transformer", "d_model": 768, "n_head": 12, "n_layer": 12, "vocab_size": 50280})"},
  };
  return all;
}

const Preset* find_preset(std::string_view name) {
  for (const Preset& preset : presets())
    if (name == preset.name) return &preset;
  return nullptr;
}

}  // namespace brood
