#include "brood/model/state_file.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "brood/base/hash.h"
#include "brood/base/json.h"
#include "brood/model/checkpoint.h"

namespace brood {

namespace {

// Why a state cannot be that of the model, or "".
std::string unlike(const KeptState& kept, const Model& model, bool any_weights) {
  if (kept.architecture != model.architecture())
    return fmt::format("it is the state of a model of architecture {}, not {}", shown(kept.architecture),
                       model.architecture());
  const State one = model.make_state(1);
  if (kept.state.tensors.size() != one.tensors.size())
    return fmt::format("it has {} tensors, but the model's state has {}", kept.state.tensors.size(),
                       one.tensors.size());
  for (const StateTensor& wanted : one.tensors) {
    const auto same = [&](const StateTensor& t) { return t.name == wanted.name; };
    const auto found = std::find_if(kept.state.tensors.begin(), kept.state.tensors.end(), same);
    if (found == kept.state.tensors.end()) return fmt::format("it lacks {}", wanted.name);
    const int64_t size = found->value.size() / kept.state.streams;
    if (size != wanted.value.size())
      return fmt::format("its {} has {} numbers a stream, but the model's has {}", wanted.name, size,
                         wanted.value.size());
  }
  const int64_t vocabulary = model.frame().vocab_size;
  for (const int32_t token : kept.last)
    if (token >= vocabulary)
      return fmt::format("its last token is {}, but the model knows {}", token, vocabulary);
  if (!any_weights && kept.weights != fingerprint(model))
    return "it was kept of other weights than these, to which its numbers mean little (the model has learnt "
           "since, or is another); --any-weights takes it all the same";
  return "";
}

}  // namespace

std::string fingerprint(const Model& model) {
  std::string all;
  for (const Parameter& p : model.parameters().all()) {
    const std::span<const float> numbers(p.value.f32(), size_t(p.size()));
    all +=
        fmt::format("{} {} {:016x}\n", p.name, p.value.shape().text(), content_hash(std::as_bytes(numbers)));
  }
  return fmt::format("{:016x}", content_hash(std::as_bytes(std::span(all))));
}

KeptState kept_state(const Model& model, State state, std::vector<int32_t> last) {
  BROOD_ASSERT(last.size() == size_t(state.streams));
  model.set_traces(state, false);
  return {std::move(state), std::move(last), model.architecture(), fingerprint(model)};
}

void write_kept_state(const std::string& path, const KeptState& kept, FileSystem& files) {
  const std::map<std::string, std::string> metadata = {{kKeptArchitecture, kept.architecture},
                                                       {kKeptLast, nlohmann::json(kept.last).dump()},
                                                       {kKeptWeights, kept.weights}};
  write_durably(files, path,
                [&](const std::string& aside) { write_state(aside, kept.state, metadata, files); });
}

KeptState read_kept_state(const std::string& path, const Model& model, bool any_weights) {
  KeptState kept = read_kept_state(path);
  const std::string why = unlike(kept, model, any_weights);
  if (!why.empty()) fail("{}: {}", path, why);
  // In the model's own order and shapes.
  State state = model.make_state(kept.state.streams);
  state.positions = kept.state.positions;
  for (StateTensor& to : state.tensors)
    for (const StateTensor& from : kept.state.tensors)
      if (from.name == to.name) std::memcpy(to.value.data(), from.value.data(), size_t(to.value.bytes()));
  kept.state = std::move(state);
  return kept;
}

}  // namespace brood
