#include "brood/model/rwkv_weights.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "brood/base/json.h"

namespace brood {

namespace {

using Spellings = std::vector<std::pair<std::string_view, std::string_view>>;

// Our spelling (Hugging Face's and flash-linear-attention's) and the one of RWKV's authors, of the whole name or of
// its part behind the number of a layer; the first that fits is taken.
const Spellings kWhole = {
    {"rwkv.embeddings.", "emb."},  {"rwkv.ln_out.", "ln_out."}, {"head.", "head."},
    {"model.embeddings.", "emb."}, {"model.norm.", "ln_out."},  {"lm_head.", "head."},
};
const Spellings kFourth = {
    {"pre_ln.", "ln0."},
    {"attention.time_mix_key", "att.time_mix_k"},
    {"attention.time_mix_value", "att.time_mix_v"},
    {"attention.time_mix_receptance", "att.time_mix_r"},
    {"attention.", "att."},
    {"feed_forward.time_mix_key", "ffn.time_mix_k"},
    {"feed_forward.time_mix_receptance", "ffn.time_mix_r"},
    {"feed_forward.", "ffn."},
};
const Spellings kSeventh = {
    {"pre_norm.", "ln0."},
    {"attn_norm.", "ln1."},
    {"ffn_norm.", "ln2."},
    {"attn.r_proj.", "att.receptance."},
    {"attn.k_proj.", "att.key."},
    {"attn.v_proj.", "att.value."},
    {"attn.o_proj.", "att.output."},
    {"attn.g_norm.", "att.ln_x."},
    {"attn.", "att."},
};

std::string respelt(const std::string& name, const Spellings& spellings) {
  for (const auto& [ours, theirs] : spellings)
    if (name.starts_with(ours)) return std::string(theirs) + name.substr(ours.size());
  return name;
}

// "att.w_lora.lora.0.weight" and so on are w1, w2 and, a bias, w0.
std::string low_rank_respelt(std::string name) {
  const size_t at = name.find("_lora.lora.");
  if (at == std::string::npos) return name;
  const std::string_view part = std::string_view(name).substr(at + std::string_view("_lora.lora.").size());
  const char* number = part == "0.weight" ? "1" : part == "2.weight" ? "2" : "0";
  return name.substr(0, at) + number;
}

std::string name_in_file(const std::string& ours) {
  for (const auto& [prefix, spellings] : {std::pair(std::string_view("rwkv.blocks."), kFourth),
                                          std::pair(std::string_view("model.layers."), kSeventh)}) {
    if (!ours.starts_with(prefix)) continue;
    const size_t dot = ours.find('.', prefix.size());
    return "blocks." + ours.substr(prefix.size(), dot + 1 - prefix.size()) +
           low_rank_respelt(respelt(ours.substr(dot + 1), spellings));
  }
  return respelt(ours, kWhole);
}

// Extents of 1 say nothing.
std::vector<int64_t> without_ones(std::vector<int64_t> shape) {
  std::erase(shape, 1);
  return shape;
}

void read_whole(const RwkvFile& file, const std::string& name, Parameter& p) {
  std::vector<int64_t> wanted;
  for (int i = 0; i < p.value.shape().rank(); ++i) wanted.push_back(p.value.shape()[i]);
  const std::vector<int64_t>& stored = file.need(name).shape;
  if (without_ones(stored) != without_ones(wanted))
    fail("{}: {} has the shape {}, but {} is needed", file.name(), shown(name), nlohmann::json(stored).dump(),
         nlohmann::json(wanted).dump());
  file.read(name, {p.value.f32(), size_t(p.size())});
}

// The six shares of RWKV-7's token shift stand in one tensor, one row each.
constexpr std::string_view kShares = "rwkvag";

// The place of a share "….att.x_c" among them, or npos.
size_t share_of(const std::string& name) {
  const size_t at = name.rfind(".att.x_");
  if (at == std::string::npos || at + 8 != name.size()) return std::string::npos;
  return kShares.find(name.back());
}

// The file holds −e^{time_decay}.
void take_logarithm(const RwkvFile& file, const std::string& name, Parameter& p) {
  constexpr float kLeast = 1e-30f;  // so small a decay is none
  for (float& x : std::span(p.value.f32(), size_t(p.size()))) {
    if (x > 0) fail("{}: {} holds {}, but decays are not above 0 there", file.name(), shown(name), x);
    x = std::log(std::max(-x, kLeast));
  }
}

}  // namespace

void read_weights(const RwkvFile& file, Model& model) {
  // Layer 0 of some RWKV-7 carries a mix of values that is not used.
  std::set<std::string> known = {"blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"};
  for (Parameter& p : model.parameters().all()) {
    std::string name = name_in_file(p.name);
    if (const size_t share = share_of(name); share != std::string::npos) {
      name.replace(name.size() - 1, 1, kShares);
      const auto size = int64_t(kShares.size()) * p.size();
      if (file.need(name).size != size)
        fail("{}: {} has {} numbers, but must have {}", file.name(), shown(name), file.need(name).size, size);
      file.read(name, {p.value.f32(), size_t(p.size())}, int64_t(share) * p.size());
    } else {
      read_whole(file, name, p);
    }
    if (name.ends_with(".att.time_decay")) take_logarithm(file, name, p);
    ++p.version;
    known.insert(name);
  }
  for (const auto& [name, tensor] : file.tensors())
    if (!known.contains(name))
      fail("{}: the tensor {} belongs to no part of the model", file.name(), shown(name));
}

}  // namespace brood
