#include "brood/model/checkpoint.h"

#include <algorithm>
#include <bit>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "brood/base/json.h"
#include "brood/model/diverged.h"

namespace brood {

namespace {

constexpr const char* kPositions = "positions";
constexpr const char* kSteps = "steps";
constexpr const char* kExtra = "extra";

// What some spell another way, and what a state_dict may hold that is no weight of ours.
const std::pair<std::string, std::string> kSpellings[] = {
    {"backbone.embedding.weight", "backbone.embeddings.weight"}};
const std::string kBuffers[] = {"attn.freqs"};   // BDH's table of frequencies, which we compute
const std::string kTiedHead = "lm_head.weight";  // some files repeat the embedding under this name

std::vector<int64_t> file_shape(const Parameter& parameter) {
  if (!parameter.file_shape.empty()) return parameter.file_shape;
  std::vector<int64_t> shape;
  for (int i = 0; i < parameter.value.shape().rank(); ++i) shape.push_back(parameter.value.shape()[i]);
  if (parameter.swapped_in_file) std::swap(shape[shape.size() - 2], shape[shape.size() - 1]);
  return shape;
}

std::string text_of(const std::vector<int64_t>& shape) { return nlohmann::json(shape).dump(); }

// [C, 1, 4] and [C, 4] hold the same numbers in the same order.
std::vector<int64_t> without_ones(std::vector<int64_t> shape) {
  std::erase(shape, 1);
  return shape;
}

const std::string& stored_name(const SafetensorsFile& file, const std::string& name) {
  if (file.find(name)) return name;
  for (const auto& [one, other] : kSpellings) {
    if (name == one && file.find(other)) return other;
    if (name == other && file.find(one)) return one;
  }
  fail("{}: the tensor {} is missing; the file belongs to another model than its config.json", file.name(),
       shown(name));
}

// Shapes must agree; rows of a vocabulary may be padded at the end.
void check_shape(const SafetensorsFile& file, const std::string& name, const std::vector<int64_t>& wanted,
                 bool may_be_padded) {
  const std::vector<int64_t>& stored = file.find(name)->shape;
  std::vector<int64_t> cut = stored;
  if (may_be_padded && !cut.empty() && cut[0] > wanted[0] && cut[0] - wanted[0] <= kMostPadding)
    cut[0] = wanted[0];
  if (without_ones(cut) != without_ones(wanted))
    fail("{}: {} has the shape {}, but config.json needs {}", file.name(), shown(name), text_of(stored),
         text_of(wanted));
}

void read_swapped(const SafetensorsFile& file, const std::string& name, const std::vector<int64_t>& shape,
                  float* to) {
  const int64_t rows = shape[shape.size() - 2], cols = shape[shape.size() - 1], size = rows * cols;
  std::vector<float> matrix(static_cast<size_t>(size));
  const int64_t all = file.find(name)->size();
  for (int64_t first = 0; first < all; first += size, to += size) {
    file.read_f32(name, matrix, first);
    for (int64_t c = 0; c < cols; ++c)
      for (int64_t r = 0; r < rows; ++r) to[c * rows + r] = matrix[size_t(r * cols + c)];
  }
}

void read_like(const SafetensorsFile& file, const std::string& name, const Parameter& parameter,
               bool may_be_padded, Tensor& to) {
  const std::vector<int64_t> shape = file_shape(parameter);
  check_shape(file, name, shape, may_be_padded);
  if (parameter.swapped_in_file)
    read_swapped(file, name, shape, to.f32());
  else
    file.read_f32(name, {to.f32(), size_t(to.size())});
}

// flash-linear-attention's first RWKV-7 kept the six shares of a token shift, attn.x_r to x_g, as rows of attn.x_x.
// Whether p is one of them, and was read from there.
bool read_fused_share(const SafetensorsFile& file, Parameter& p, std::set<std::string>& known) {
  constexpr std::string_view kShares = "rwkvag", kPart = ".attn.x_";
  const std::string group = p.name.substr(0, p.name.size() - 1);
  if (file.find(p.name) || !group.ends_with(kPart)) return false;
  const size_t row = kShares.find(p.name.back());
  const std::string fused = group + "x";
  if (row == std::string_view::npos || !file.find(fused)) return false;
  check_shape(file, fused, {int64_t(kShares.size()), p.size()}, false);
  file.read_f32(fused, {p.value.f32(), size_t(p.size())}, int64_t(row) * p.size());
  known.insert(fused);
  return true;
}

// A head that the model ties to its embedding may be in the file, too, but must then be the same.
void check_tied_head(const SafetensorsFile& file, const Model& model) {
  const std::string& embedding = stored_name(file, model.frame().embedding_name);
  const StoredTensor &head = *file.find(kTiedHead), &table = *file.find(embedding);
  if (head.dtype != table.dtype || head.shape != table.shape ||
      !std::equal(head.data, head.data + head.bytes, table.data))
    fail("{}: {} differs from the embedding, but config.json ties them; set tie_embeddings to false",
         file.name(), shown(kTiedHead));
}

std::string number_text(const SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) fail("{}: its metadata lacks \"{}\"", file.name(), key);
  return found->second;
}

int64_t count_from(const nlohmann::json& value, const SafetensorsFile& file, const char* key) {
  // Half of the range, so that counting on from there cannot overflow.
  constexpr int64_t kMost = int64_t(1) << 62;
  if (!value.is_number_integer() || value < 0 || value > kMost)
    fail("{}: its {} are {}, but must be whole numbers from 0", file.name(), key, shown(value));
  return value.get<int64_t>();
}

// A save that could not be read again must not take the place of one that can.
void check_finite(const std::string& path, const std::string& name, const Tensor& tensor) {
  if (!is_finite(tensor))
    throw Diverged(
        fmt::format("saving {}: {} holds a NaN or an infinity; nothing was saved, and what an earlier save "
                    "left is as it was (a smaller --learning-rate helps)",
                    path, shown(name)));
}

}  // namespace

bool is_finite(const Tensor& tensor) {
  constexpr uint32_t kExponent = 0x7f800000u;  // all ones: infinity or NaN
  if (tensor.empty()) return true;
  const std::span<const float> numbers(tensor.f32(), size_t(tensor.size()));
  uint32_t top = 0;  // its highest bit: the carry out of an exponent of ones
  for (const float x : numbers) top |= (std::bit_cast<uint32_t>(x) & kExponent) + 0x00800000u;
  return top >> 31 == 0;
}

std::string save_id_of(const SafetensorsFile& file) {
  const auto found = file.metadata().find(kSave);
  return found == file.metadata().end() ? "" : found->second;
}

int64_t stored_vocabulary(const SafetensorsFile& file, const std::string& name) {
  const StoredTensor& table = *file.find(stored_name(file, name));
  return table.shape.empty() ? 0 : table.shape[0];
}

void write_weights(const std::string& path, const Model& model, const std::string& save_id,
                   FileSystem& files) {
  std::vector<TensorToWrite> tensors;
  for (const Parameter& p : model.parameters().all()) {
    check_finite(path, p.name, p.value);
    tensors.push_back({p.name, p.value.dtype(), file_shape(p), p.value.data(), p.swapped_in_file});
  }
  // Hugging Face's loaders want to be told a format; "pt" is the one whose layout this is.
  write_safetensors(path, tensors, {{"format", "pt"}, {kSave, save_id}}, files);
}

void write_state(const std::string& path, const State& state, std::map<std::string, std::string> metadata,
                 FileSystem& files) {
  std::vector<TensorToWrite> tensors;
  for (const StateTensor& t : state.tensors) {
    check_finite(path, t.name, t.value);
    std::vector<int64_t> shape;
    for (int i = 0; i < t.value.shape().rank(); ++i) shape.push_back(t.value.shape()[i]);
    tensors.push_back({t.name, t.value.dtype(), shape, t.value.data()});
  }
  metadata[kPositions] = nlohmann::json(state.positions).dump();
  write_safetensors(path, tensors, metadata, files);
}

void write_optimiser(const std::string& path, const Model& model, const Progress& progress,
                     const std::string& save_id, FileSystem& files) {
  std::vector<TensorToWrite> tensors;
  for (const Parameter& p : model.parameters().all()) {
    for (const auto& [suffix, moment] : {std::pair(".m", &p.moment1), std::pair(".v", &p.moment2)}) {
      if (moment->empty()) continue;
      check_finite(path, p.name + suffix, *moment);
      tensors.push_back({p.name + suffix, moment->dtype(), file_shape(p), moment->data(), p.swapped_in_file});
    }
  }
  write_safetensors(
      path, tensors,
      {{kSteps, std::to_string(progress.steps)}, {kExtra, progress.extra.dump()}, {kSave, save_id}}, files);
}

void read_weights(const SafetensorsFile& file, Model& model) {
  std::set<std::string> known(std::begin(kBuffers), std::end(kBuffers));
  for (Parameter& p : model.parameters().all()) {
    ++p.version;
    if (read_fused_share(file, p, known)) continue;
    const std::string& name = stored_name(file, p.name);
    const bool vocabulary = p.name == model.frame().embedding_name || p.name == model.frame().head_name;
    read_like(file, name, p, vocabulary && !p.swapped_in_file, p.value);
    known.insert(name);
  }
  if (model.frame().tied_head && file.find(kTiedHead) && known.insert(kTiedHead).second)
    check_tied_head(file, model);
  for (const auto& [name, tensor] : file.tensors())
    if (!known.contains(name))
      fail(
          "{}: the tensor {} belongs to no part of this model; the file belongs to another model than its "
          "config.json",
          file.name(), shown(name));
}

std::unique_ptr<State> read_state(const SafetensorsFile& file, const Model& model) {
  const nlohmann::json positions = parse_json(number_text(file, kPositions), file.name() + ": positions");
  if (!positions.is_array() || positions.empty())
    fail("{}: its positions are {}, but must be a list of numbers", file.name(), shown(positions));
  const auto streams = int64_t(positions.size());
  // Before a state of that size is made: does the file hold one?
  int64_t stored_bytes = 0;
  for (const auto& [name, tensor] : file.tensors()) stored_bytes += tensor.bytes;
  const bool traces = model.has_traces() && stored_bytes / streams == model.state_bytes_per_stream(true);
  if (!traces && stored_bytes / streams != model.state_bytes_per_stream())
    fail(
        "{}: it holds {} bytes for {} streams, but the model's state is {} bytes a stream; remove the file "
        "to "
        "begin anew",
        file.name(), stored_bytes, streams, model.state_bytes_per_stream());
  const State one = model.make_state(1, traces);
  for (const StateTensor& t : one.tensors) {
    const StoredTensor* stored = file.find(t.name);
    if (!stored)
      fail("{}: the tensor {} is missing; remove the file to begin anew", file.name(), shown(t.name));
    std::vector<int64_t> wanted{streams};
    for (int i = 1; i < t.value.shape().rank(); ++i) wanted.push_back(t.value.shape()[i]);
    if (stored->shape != wanted)
      fail("{}: {} has the shape {}, but the model needs {}; remove the file to begin anew", file.name(),
           shown(t.name), text_of(stored->shape), text_of(wanted));
  }
  if (file.tensors().size() != one.tensors.size())
    fail("{}: it holds states that this model does not have; remove the file to begin anew", file.name());
  auto state = std::make_unique<State>(model.make_state(streams, traces));
  for (StateTensor& t : state->tensors) file.read_f32(t.name, {t.value.f32(), size_t(t.value.size())});
  for (int64_t b = 0; b < streams; ++b)
    state->positions[size_t(b)] = count_from(positions[size_t(b)], file, kPositions);
  return state;
}

std::unique_ptr<Progress> read_optimiser(const SafetensorsFile& file, Model& model) {
  auto progress = std::make_unique<Progress>();
  progress->steps = count_from(parse_json(number_text(file, kSteps), file.name() + ": steps"), file, kSteps);
  progress->extra = parse_json(number_text(file, kExtra), file.name() + ": extra");
  size_t used = 0;
  for (Parameter& p : model.parameters().all()) {
    for (const char* suffix : {".m", ".v"}) {
      const std::string name = p.name + suffix;
      if (!file.find(name)) continue;  // an optimiser without that moment
      Tensor& moment = suffix[1] == 'm' ? p.moment1 : p.moment2;
      moment = Tensor::uninitialized(p.value.shape());
      read_like(file, name, p, false, moment);
      ++used;
    }
    if (p.moment1.empty() != p.moment2.empty())
      fail("{}: {} has one moment without the other; remove the file to begin anew", file.name(),
           shown(p.name));
    const std::span<const float> second(p.moment2.f32(), size_t(p.moment2.size()));
    if (std::any_of(second.begin(), second.end(), [](float v) { return v < 0; }))
      fail("{}: {} is negative somewhere, which a mean of squares cannot be", file.name(),
           shown(p.name + ".v"));
  }
  if (used != file.tensors().size())
    fail("{}: it holds moments that this model does not have; remove the file to begin anew", file.name());
  return progress;
}

}  // namespace brood
