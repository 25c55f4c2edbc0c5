#include "brood/model/kept_state.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "brood/base/json.h"
#include "brood/base/memory.h"
#include "brood/model/safetensors.h"

namespace brood {

namespace {

constexpr const char* kPositions = "positions";
constexpr int64_t kMost = int64_t(1) << 62;  // half of the range, so that counting on cannot overflow

const std::string& text_of(const SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end())
    fail("{}: its metadata lacks \"{}\"; brood state save makes such a file", file.name(), key);
  return found->second;
}

std::vector<int64_t> whole_numbers(const SafetensorsFile& file, const char* key, int64_t low, int64_t high) {
  const nlohmann::json list = parse_json(text_of(file, key), fmt::format("{}: {}", file.name(), key));
  std::vector<int64_t> numbers;
  if (!list.is_array() || list.empty())
    fail("{}: its {} are {}, but must be a list of whole numbers", file.name(), key, shown(list));
  for (const auto& number : list) {
    if (!number.is_number_integer() || number < low || number > high)
      fail("{}: {} among its {}, which go from {} to {}", file.name(), shown(number), key, low, high);
    numbers.push_back(number.get<int64_t>());
  }
  return numbers;
}

// "layers.12.ssm" comes after "layers.3.ssm".
std::pair<int64_t, std::string> order_of(const std::string& name) {
  constexpr std::string_view kPrefix = "layers.";
  int64_t layer = -1;
  if (name.starts_with(kPrefix))
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer);
  return {layer, name};
}

constexpr std::string_view kSynapses = "synapses", kFaded = "faded";

// Each extent at least 1: a shape of such numbers is as large as its bytes, which the file has.
void require_shape(const SafetensorsFile& file, const std::string& name, const StoredTensor& stored,
                   int64_t streams) {
  if (stored.shape.empty() || stored.shape.size() > size_t(Shape::kMaxRank) || stored.shape[0] != streams)
    fail("{}: {} is not of {} streams in up to {} extents", file.name(), shown(name), streams,
         int(Shape::kMaxRank));
  for (const int64_t extent : stored.shape)
    if (extent < 1) fail("{}: {} has an extent of {}; the file is damaged", file.name(), shown(name), extent);
  if (name.ends_with(kFaded) && stored.shape != std::vector<int64_t>{streams, 1})
    fail("{}: {} must be one number a stream, but has {}", file.name(), shown(name), stored.size());
}

// What has faded does not come back.
void require_faded(const SafetensorsFile& file, const std::string& name, const Tensor& value) {
  for (int64_t i = 0; i < value.size(); ++i)
    if (value.f32()[i] < 0)
      fail("{}: {} holds {}, but must not be negative; the file is damaged", file.name(), shown(name),
           value.f32()[i]);
}

State read_shapeless(const SafetensorsFile& file, std::vector<int64_t> positions) {
  State state;
  state.streams = int64_t(positions.size());
  state.positions = std::move(positions);
  std::vector<std::string> names;
  double numbers = 0;
  for (const auto& [name, stored] : file.tensors()) {
    require_shape(file, name, stored, state.streams);
    names.push_back(name);
    numbers += double(stored.size());
  }
  require_memory(numbers * sizeof(float), fmt::format("{}: its state", file.name()),
                 "fork single streams out of it");
  std::sort(names.begin(), names.end(),
            [](const auto& a, const auto& b) { return order_of(a) < order_of(b); });
  for (const std::string& name : names) {
    Tensor value = Tensor::uninitialized(Shape(std::span(file.find(name)->shape)));
    file.read_f32(name, {value.f32(), size_t(value.size())});
    if (name.ends_with(kFaded)) require_faded(file, name, value);
    state.tensors.push_back({name, std::move(value)});
  }
  return state;
}

KeptState read_any(const SafetensorsFile& file) {
  KeptState kept;
  kept.architecture = text_of(file, kKeptArchitecture);
  kept.weights = text_of(file, kKeptWeights);
  kept.state = read_shapeless(file, whole_numbers(file, kPositions, 0, kMost));
  for (const int64_t token : whole_numbers(file, kKeptLast, -1, INT32_MAX))
    kept.last.push_back(int32_t(token));
  if (kept.last.size() != size_t(kept.state.streams))
    fail("{}: {} last tokens of {} streams", file.name(), kept.last.size(), kept.state.streams);
  return kept;
}

// What is left of a stream's numbers: memory is kept divided by a factor where it fades (autograd/neurons.h).
double scale_of(const State& state, const StateTensor& tensor, int64_t stream) {
  if (state.positions[size_t(stream)] == 0) return 0;
  if (!tensor.name.ends_with(kSynapses)) return 1;
  const std::string faded =
      tensor.name.substr(0, tensor.name.size() - kSynapses.size()) + std::string(kFaded);
  for (const StateTensor& t : state.tensors)
    if (t.name == faded) return std::exp(-double(t.value.f32()[stream]));
  return 1;
}

}  // namespace

KeptState parse_kept_state(std::span<const std::byte> bytes, const std::string& name) {
  return read_any(SafetensorsFile::parse(bytes, name));
}

KeptState read_kept_state(const std::string& path) { return read_any(SafetensorsFile::open(path)); }

std::vector<StateDifference> differences(const State& a, const State& b) {
  if (a.streams != b.streams)
    fail("state diff: {} streams and {}; fork single ones to compare them", a.streams, b.streams);
  const auto differ = [] { fail("state diff: the two are states of different models"); };
  if (a.tensors.size() != b.tensors.size()) differ();
  std::vector<StateDifference> all;
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const StateTensor &left = a.tensors[i], &right = b.tensors[i];
    if (left.name != right.name || left.value.shape() != right.value.shape()) differ();
    StateDifference d{.name = left.name, .size = left.value.size()};
    const int64_t size = d.size / a.streams;
    double aa = 0, bb = 0, ab = 0, off = 0;
    int64_t changed = 0;
    for (int64_t stream = 0; stream < a.streams; ++stream) {
      const double of_a = scale_of(a, left, stream), of_b = scale_of(b, right, stream);
      for (int64_t k = stream * size; k < (stream + 1) * size; ++k) {
        const double x = of_a == 0 ? 0 : of_a * double(left.value.f32()[k]);
        const double y = of_b == 0 ? 0 : of_b * double(right.value.f32()[k]);
        aa += x * x;
        bb += y * y;
        ab += x * y;
        off += (x - y) * (x - y);
        changed += x != y;
      }
    }
    d.norm_a = std::sqrt(aa);
    d.norm_b = std::sqrt(bb);
    d.norm_difference = std::sqrt(off);
    if (aa > 0 || bb > 0) d.cosine = aa > 0 && bb > 0 ? ab / (d.norm_a * d.norm_b) : 0;
    d.changed = d.size > 0 ? double(changed) / double(d.size) : 0;
    all.push_back(d);
  }
  return all;
}

}  // namespace brood
