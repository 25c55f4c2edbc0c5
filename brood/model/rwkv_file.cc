#include "brood/model/rwkv_file.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "brood/base/error.h"
#include "brood/base/file.h"
#include "brood/base/json.h"
#include "brood/tensor/half.h"

static_assert(std::endian::native == std::endian::little, "rwkv.cpp files hold little-endian numbers");

namespace brood {

namespace {

constexpr uint32_t kMagic = 0x67676d66;  // "ggmf"
constexpr uint32_t kOldest = 100, kNewest = 101;
constexpr uint32_t kMostDimensions = 4;
constexpr uint32_t kLongestName = 256;
constexpr uint32_t kMostLayers = 1024, kMostChannels = 1 << 16, kMostTokens = 1 << 20;

enum : uint32_t { kF32 = 0, kF16 = 1 };

std::string name_of_type(uint32_t type) {
  switch (type) {
    case 2:
      return "Q4_0";
    case 3:
      return "Q4_1";
    case 7:
      return "Q5_0";
    case 8:
      return "Q5_1";
    case 9:
      return "Q8_0";
    default:
      return fmt::format("{}", type);
  }
}

// Takes numbers and texts from the front of the file's bytes.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& name) : rest_(bytes), name_(name) {}
  bool empty() const { return rest_.empty(); }
  std::span<const std::byte> take(uint64_t bytes) {
    if (bytes > rest_.size()) fail("{}: it ends in the middle of a tensor; the file is cut short", name_);
    const auto taken = rest_.first(size_t(bytes));
    rest_ = rest_.subspan(size_t(bytes));
    return taken;
  }
  uint32_t number() {
    uint32_t value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  // In [1, most].
  uint32_t count(const char* what, uint32_t most) {
    const uint32_t value = number();
    if (value < 1 || value > most)
      fail("{}: {} is {}, but must be from 1 to {}; the file is damaged", name_, what, value, most);
    return value;
  }

 private:
  std::span<const std::byte> rest_;
  const std::string& name_;
};

std::string text_of(const std::vector<int64_t>& shape) { return nlohmann::json(shape).dump(); }

// One tensor's head and data; its name goes to `key`.
RwkvFile::Tensor read_tensor(Reader& reader, const std::string& file, std::string& key) {
  const uint32_t dimensions = reader.count("a tensor's number of dimensions", kMostDimensions);
  const uint32_t key_length = reader.count("the length of a tensor's name", kLongestName);
  const uint32_t type = reader.number();
  RwkvFile::Tensor tensor{.half = type == kF16, .shape = {}, .data = nullptr, .size = 1};
  for (uint32_t i = 0; i < dimensions; ++i) {
    const int64_t extent = reader.number();  // innermost first
    tensor.shape.insert(tensor.shape.begin(), extent);
    if (__builtin_mul_overflow(tensor.size, extent, &tensor.size))
      fail("{}: a tensor's shape {} is impossible; the file is damaged", file, text_of(tensor.shape));
  }
  const auto name = reader.take(key_length);
  key.assign(reinterpret_cast<const char*>(name.data()), name.size());
  if (type != kF32 && type != kF16)
    fail("{}: {} is of type {}; only files of FP32 and FP16 can be read, not quantised ones", file,
         shown(key), name_of_type(type));
  int64_t bytes = 0;
  if (__builtin_mul_overflow(tensor.size, type == kF16 ? 2 : 4, &bytes) || bytes == 0)
    fail("{}: {} has the impossible shape {}; the file is damaged", file, shown(key), text_of(tensor.shape));
  tensor.data = reader.take(uint64_t(bytes)).data();
  return tensor;
}

// The extent that a config is made from.
int64_t extent(const RwkvFile& file, const std::string& name, size_t which) {
  const std::vector<int64_t>& shape = file.need(name).shape;
  if (which >= shape.size())
    fail("{}: {} has the shape {}, which has too few extents", file.name(), shown(name), text_of(shape));
  return shape[which];
}

void need_shape(const RwkvFile& file, const std::string& name, const std::vector<int64_t>& shape) {
  const std::vector<int64_t>& stored = file.need(name).shape;
  if (stored != shape)
    fail("{}: {} has the shape {}, but {} is needed", file.name(), shown(name), text_of(stored),
         text_of(shape));
}

}  // namespace

bool RwkvFile::is_one(const std::string& path) {
  std::error_code absent;
  if (!std::filesystem::is_regular_file(path, absent))
    return false;  // a pipe is read once: not to look at it
  std::ifstream file(path, std::ios::binary);
  uint32_t magic = 0;
  return file.read(reinterpret_cast<char*>(&magic), sizeof magic) && magic == kMagic;
}

RwkvFile RwkvFile::open(const std::string& path) {
  const MappedFile mapped = MappedFile::open(path);
  RwkvFile file = parse(mapped.bytes(), path);
  file.mapping_ = mapped.owner();
  return file;
}

RwkvFile RwkvFile::parse(std::span<const std::byte> bytes, const std::string& name) {
  constexpr size_t kHeader = 6 * sizeof(uint32_t);
  if (bytes.size() < kHeader) fail("{}: {} bytes are too few for a file of rwkv.cpp", name, bytes.size());
  Reader reader(bytes, name);
  if (reader.number() != kMagic) fail("{}: it is not a file of rwkv.cpp", name);
  const uint32_t version = reader.number();
  if (version < kOldest || version > kNewest)
    fail("{}: its version is {}, but only {} and {} are known", name, version, kOldest, kNewest);
  RwkvFile file;
  file.name_ = name;
  file.vocab_size_ = reader.count("the size of the vocabulary", kMostTokens);
  file.d_model_ = reader.count("the number of channels", kMostChannels);
  file.n_layer_ = reader.count("the number of layers", kMostLayers);
  reader.number();  // the type of most tensors; each says its own
  while (!reader.empty()) {
    std::string key;
    const Tensor tensor = read_tensor(reader, name, key);
    if (!file.tensors_.emplace(key, tensor).second)
      fail("{}: {} is there twice; the file is damaged", name, shown(key));
  }
  return file;
}

const RwkvFile::Tensor* RwkvFile::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const RwkvFile::Tensor& RwkvFile::need(const std::string& name) const {
  if (const Tensor* tensor = find(name)) return *tensor;
  fail("{}: the tensor {} is missing", name_, shown(name));
}

void RwkvFile::read(const std::string& name, std::span<float> to, int64_t first) const {
  const Tensor& tensor = need(name);
  const auto wanted = int64_t(to.size());
  if (first < 0 || first > tensor.size || wanted > tensor.size - first)
    fail("{}: {} has {} numbers, but {} are needed from index {} on", name_, shown(name), tensor.size, wanted,
         first);
  bool finite = true;
  for (size_t i = 0; i < to.size(); ++i) {
    if (tensor.half) {
      uint16_t bits;
      std::memcpy(&bits, tensor.data + (size_t(first) + i) * sizeof bits, sizeof bits);
      to[i] = half_to_float(bits);
    } else {
      std::memcpy(&to[i], tensor.data + (size_t(first) + i) * sizeof(float), sizeof(float));
    }
    finite &= std::isfinite(to[i]);
  }
  if (!finite) fail("{}: {} holds a NaN or an infinity", name_, shown(name));
}

nlohmann::json RwkvFile::config() const {
  const std::string first = "blocks.0.att.";
  const bool seventh = find(first + "r_k") != nullptr;
  if (!seventh && (!find(first + "time_mix_k") || find(first + "ln_x.weight")))
    fail("{}: it holds neither an RWKV-4 nor an RWKV-7, the two that are known", name_);
  const int64_t d_ff = extent(*this, "blocks.0.ffn.key.weight", 0);
  need_shape(*this, "emb.weight", {vocab_size_, d_model_});
  // A model as large as this configuration says is made before it is filled: the largest parts must be there.
  for (int64_t i = 0; i < n_layer_; ++i) {
    const std::string layer = fmt::format("blocks.{}.", i);
    need_shape(*this, layer + "att.output.weight", {d_model_, d_model_});
    need_shape(*this, layer + "ffn.key.weight", {d_ff, d_model_});
  }
  nlohmann::json config = {{"architecture", seventh ? "rwkv7" : "rwkv4"},
                           {"vocab_size", vocab_size_},
                           {"d_model", d_model_},
                           {"n_layer", n_layer_},
                           {"d_ff", d_ff}};
  if (!seventh) return config;
  config["head_dim"] = extent(*this, first + "r_k", 1);
  config["decay_low_rank_dim"] = extent(*this, first + "w2", 1);
  config["a_low_rank_dim"] = extent(*this, first + "a2", 1);
  config["gate_low_rank_dim"] = extent(*this, first + "g2", 1);
  if (n_layer_ > 1) config["v_low_rank_dim"] = extent(*this, "blocks.1.att.v2", 1);
  for (int64_t i = 0; i < n_layer_; ++i)
    for (const char* rank : {"w", "a", "g", "v"})
      if (i > 0 || *rank != 'v')
        need_shape(
            *this, fmt::format("blocks.{}.att.{}2", i, rank),
            {d_model_, extent(*this, fmt::format("blocks.{}.att.{}2", *rank == 'v' ? 1 : 0, rank), 1)});
  return config;
}

}  // namespace brood
