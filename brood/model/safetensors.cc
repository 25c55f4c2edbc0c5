#include "brood/model/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "brood/base/error.h"
#include "brood/base/file.h"
#include "brood/base/json.h"
#include "brood/tensor/half.h"

static_assert(std::endian::native == std::endian::little, "safetensors holds little-endian numbers");

namespace brood {

namespace {

constexpr uint64_t kLongestHeader = 100'000'000;  // the format's own limit
constexpr size_t kHighestRank = 8;
constexpr size_t kLengthBytes = 8;
const std::string kMetadataKey = "__metadata__";

// Bytes per element of the format's types; 0 for a name that is not one.
int64_t element_bytes(const std::string& dtype) {
  static const std::map<std::string, int64_t> sizes = {{"BOOL", 1},    {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1},
                                                       {"F8_E5M2", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
                                                       {"BF16", 2},    {"I32", 4}, {"U32", 4}, {"F32", 4},
                                                       {"F64", 8},     {"I64", 8}, {"U64", 8}, {"C64", 8}};
  const auto found = sizes.find(dtype);
  return found == sizes.end() ? 0 : found->second;
}

struct Entry {
  std::string dtype;
  std::vector<uint64_t> shape, offsets;
  bool has_dtype = false, has_shape = false, has_offsets = false;
};

// Takes the header's events one by one and keeps only what the format knows, so that a hostile header costs
// no more memory than a small multiple of its own length.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::string& file) : file_(file) {}
  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;

  bool key(std::string& key) override {
    switch (where_) {
      case Where::kRoot:
        name_ = key;
        if (key == kMetadataKey ? std::exchange(saw_metadata_, true) : !entries.try_emplace(key).second)
          refuse("is there twice");
        break;
      case Where::kEntry:
        field_ = key;
        if (std::exchange(*present(), true)) refuse("has the field " + shown(field_) + " twice");
        break;
      default:
        if (!metadata.try_emplace(key).second) refuse("has the key " + shown(key) + " twice");
        field_ = key;
    }
    return true;
  }
  bool start_object(size_t) override {
    if (where_ == Where::kStart) return go(Where::kRoot);
    if (where_ != Where::kRoot) return unexpected("an object");
    return go(name_ == kMetadataKey ? Where::kMetadata : Where::kEntry);
  }
  bool end_object() override {
    if (where_ == Where::kEntry) {
      const Entry& entry = entries[name_];
      if (!entry.has_dtype || !entry.has_shape || !entry.has_offsets)
        refuse("lacks one of dtype, shape, data_offsets");
    }
    return go(where_ == Where::kRoot ? Where::kEnd : Where::kRoot);
  }
  bool start_array(size_t) override {
    if (where_ != Where::kEntry || field_ == "dtype") return unexpected("an array");
    return go(field_ == "shape" ? Where::kShape : Where::kOffsets);
  }
  bool end_array() override {
    if (where_ == Where::kOffsets && entries[name_].offsets.size() != 2) refuse("needs two data_offsets");
    return go(Where::kEntry);
  }
  bool number_unsigned(uint64_t value) override {
    Entry& entry = entries[name_];
    if (where_ == Where::kShape) {
      if (entry.shape.size() == kHighestRank) refuse(fmt::format("has more than {} extents", kHighestRank));
      entry.shape.push_back(value);
    } else if (where_ == Where::kOffsets) {
      if (entry.offsets.size() == 2) refuse("has more than two data_offsets");
      entry.offsets.push_back(value);
    } else {
      unexpected("a number");
    }
    return true;
  }
  bool string(std::string& text) override {
    if (where_ == Where::kMetadata)
      metadata[field_] = text;
    else if (where_ == Where::kEntry && field_ == "dtype")
      entries[name_].dtype = text;
    else
      unexpected("a text");
    return true;
  }
  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_integer(int64_t) override { return unexpected("a negative number"); }
  bool number_float(double, const std::string&) override { return unexpected("a fraction"); }
  bool binary(nlohmann::json::binary_t&) override { return unexpected("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    fail("{}: its header is not JSON (at byte {}); the file is damaged or not a safetensors file", file_,
         kLengthBytes + position);
  }

 private:
  enum class Where { kStart, kRoot, kEntry, kShape, kOffsets, kMetadata, kEnd };

  bool go(Where where) {
    where_ = where;
    return true;
  }
  bool* present() {
    Entry& entry = entries[name_];
    if (field_ == "dtype") return &entry.has_dtype;
    if (field_ == "shape") return &entry.has_shape;
    if (field_ == "data_offsets") return &entry.has_offsets;
    refuse("has a field " + shown(field_) + " that the format does not know");
  }
  [[noreturn]] void refuse(const std::string& what) const {
    fail("{}: the header's entry {} {}; the file is damaged", file_, shown(name_), what);
  }
  bool unexpected(const char* what) const {
    fail("{}: {} stands in the header where the format has none; the file is damaged", file_, what);
  }

  const std::string& file_;
  Where where_ = Where::kStart;
  std::string name_, field_;
  bool saw_metadata_ = false;
};

// Elements times bytes each, or UINT64_MAX when that does not fit 63 bits.
uint64_t bytes_of(const Entry& entry, uint64_t element) {
  uint64_t product = element;
  for (const uint64_t extent : entry.shape)
    if (__builtin_mul_overflow(product, extent, &product)) return UINT64_MAX;
  return product <= uint64_t(INT64_MAX) ? product : UINT64_MAX;
}

StoredTensor check_entry(const std::string& file, const std::string& name, const Entry& entry,
                         std::span<const std::byte> data) {
  const int64_t element = element_bytes(entry.dtype);
  if (element == 0) fail("{}: {} is of type {}, which is not known", file, shown(name), shown(entry.dtype));
  const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
  if (begin > end || end > data.size())
    fail("{}: {} should lie at bytes {} to {} of {}; the file is cut short or damaged", file, shown(name),
         begin, end, data.size());
  if (bytes_of(entry, uint64_t(element)) != end - begin)
    fail("{}: {} has {} bytes, which its shape and type {} do not need; the file is damaged", file,
         shown(name), end - begin, entry.dtype);
  // An extent may still be huge beside a 0; none of those is a tensor of ours, and products of them would
  // overflow.
  for (const uint64_t extent : entry.shape)
    if (extent > uint64_t(INT64_MAX)) fail("{}: {} has an impossible extent {}", file, shown(name), extent);
  return {entry.dtype, {entry.shape.begin(), entry.shape.end()}, data.data() + begin, int64_t(end - begin)};
}

// The format leaves no byte between tensors: what is not described could hide something, and what is
// described twice is a mistake.
void check_tiling(const std::string& file, const std::map<std::string, StoredTensor>& tensors,
                  std::span<const std::byte> data) {
  std::vector<std::pair<const std::byte*, int64_t>> pieces;
  for (const auto& [name, tensor] : tensors) pieces.emplace_back(tensor.data, tensor.bytes);
  std::sort(pieces.begin(), pieces.end());
  const std::byte* next = data.data();
  for (const auto& [begin, bytes] : pieces) {
    if (begin != next) fail("{}: its tensors overlap or leave gaps; the file is damaged", file);
    next += bytes;
  }
  if (next != data.data() + data.size())
    fail("{}: {} bytes after the last tensor belong to none; the file is damaged", file,
         data.data() + data.size() - next);
}

template <class T, class Convert>
bool convert(const std::byte* from, std::span<float> to, Convert to_f32) {
  bool finite = true;
  for (size_t i = 0; i < to.size(); ++i) {
    T element;
    std::memcpy(&element, from + i * sizeof(T), sizeof(T));
    to[i] = to_f32(element);
    finite &= std::isfinite(to[i]);
  }
  return finite;
}

int64_t element_of(const TensorToWrite& tensor) {
  return tensor.type ? tensor.element_bytes : size_of(tensor.dtype);
}

std::string header_of(std::span<const TensorToWrite> tensors,
                      const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  int64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    BROOD_ASSERT(!header.contains(tensor.name) && tensor.name != kMetadataKey);
    int64_t bytes = element_of(tensor);
    for (const int64_t extent : tensor.shape) bytes *= extent;
    header[tensor.name] = {{"dtype", tensor.type ? tensor.type : name_of(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((kLengthBytes - text.size() % kLengthBytes) % kLengthBytes, ' ');  // keeps the data aligned
  return text;
}

// The last two extents in the other order, a matrix at a time, so that no second copy of the tensor is held.
void append_swapped(WritableFile& file, const TensorToWrite& tensor) {
  BROOD_ASSERT(tensor.dtype == Dtype::kF32 && tensor.shape.size() >= 2);
  const size_t rank = tensor.shape.size();
  const int64_t rows = tensor.shape[rank - 2], cols = tensor.shape[rank - 1];
  int64_t matrices = 1;
  for (size_t i = 0; i + 2 < rank; ++i) matrices *= tensor.shape[i];
  const auto* from = static_cast<const float*>(tensor.data);
  std::vector<float> matrix(size_t(rows * cols));
  for (int64_t m = 0; m < matrices; ++m, from += rows * cols) {
    for (int64_t c = 0; c < cols; ++c)
      for (int64_t r = 0; r < rows; ++r) matrix[size_t(r * cols + c)] = from[c * rows + r];
    file.append(std::as_bytes(std::span(matrix)));
  }
}

void append_tensor(WritableFile& file, const TensorToWrite& tensor) {
  if (tensor.swapped) return append_swapped(file, tensor);
  int64_t bytes = element_of(tensor);
  for (const int64_t extent : tensor.shape) bytes *= extent;
  file.append({static_cast<const std::byte*>(tensor.data), size_t(bytes)});
}

}  // namespace

int64_t StoredTensor::size() const { return bytes / element_bytes(dtype); }

void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata, FileSystem& files) {
  std::vector<TensorToWrite> ordered(tensors.begin(), tensors.end());
  std::stable_sort(ordered.begin(), ordered.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    return element_of(a) > element_of(b);
  });
  const auto file = begin_safetensors(path, ordered, metadata, files);
  for (const TensorToWrite& tensor : ordered) append_tensor(*file, tensor);
  file->sync();
  file->close();
}

std::unique_ptr<WritableFile> begin_safetensors(const std::string& path,
                                                std::span<const TensorToWrite> tensors,
                                                const std::map<std::string, std::string>& metadata,
                                                FileSystem& files) {
  const std::string header = header_of(tensors, metadata);
  const uint64_t length = header.size();
  auto file = files.create(path);
  file->append(std::as_bytes(std::span(&length, 1)));
  file->append(std::as_bytes(std::span(header)));
  return file;
}

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes, const std::string& name) {
  uint64_t length = 0;
  if (bytes.size() < kLengthBytes)
    fail("{}: {} bytes are too few for a safetensors file", name, bytes.size());
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > bytes.size() - kLengthBytes || length > kLongestHeader)
    fail(
        "{}: its header should be {} bytes long but the file has {}; it is cut short or not a safetensors "
        "file",
        name, length, bytes.size());
  const auto* text = reinterpret_cast<const char*>(bytes.data() + kLengthBytes);
  HeaderReader reader(name);
  if (length == 0 || *text != '{') fail("{}: it is not a safetensors file (its header is not JSON)", name);
  nlohmann::json::sax_parse(text, text + length, &reader);

  SafetensorsFile file;
  file.name_ = name;
  const auto data = bytes.subspan(kLengthBytes + length);
  for (const auto& [key, entry] : reader.entries)
    file.tensors_.emplace(key, check_entry(name, key, entry, data));
  check_tiling(name, file.tensors_, data);
  file.metadata_ = std::move(reader.metadata);
  return file;
}

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  const MappedFile mapped = MappedFile::open(path);
  SafetensorsFile file = parse(mapped.bytes(), path);
  file.mapping_ = mapped.owner();
  return file;
}

const StoredTensor* SafetensorsFile::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

void SafetensorsFile::read_f32(const std::string& name, std::span<float> to, int64_t first) const {
  const StoredTensor* tensor = find(name);
  if (!tensor) fail("{}: the tensor {} is missing", name_, shown(name));
  const auto wanted = int64_t(to.size());
  if (first < 0 || first > tensor->size() || wanted > tensor->size() - first)
    fail("{}: {} has {} numbers, but {} are needed from index {} on", name_, shown(name), tensor->size(),
         wanted, first);
  const std::byte* from = tensor->data + first * element_bytes(tensor->dtype);
  bool finite = false;
  if (tensor->dtype == "F32")
    finite = convert<float>(from, to, [](float x) { return x; });
  else if (tensor->dtype == "BF16")
    finite = convert<uint16_t>(from, to, [](uint16_t x) { return to_float(Bf16{x}); });
  else if (tensor->dtype == "F16")
    finite = convert<uint16_t>(from, to, half_to_float);
  else if (tensor->dtype == "F64")
    finite = convert<double>(from, to, [](double x) {
      return std::abs(x) <= double(std::numeric_limits<float>::max()) ? float(x) : std::nanf("");
    });
  else
    fail("{}: {} is of type {}, but F32, BF16, F16 or F64 is needed", name_, shown(name), tensor->dtype);
  if (!finite) fail("{}: {} holds a NaN or an infinity; go back to an earlier save", name_, shown(name));
}

}  // namespace brood
