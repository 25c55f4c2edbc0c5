// The safetensors format (docs/formats/safetensors.md): 8 bytes of header length, a JSON header, raw tensors.
// Reading believes nothing: every length, offset, shape and type is checked against the file's own size
// first.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "brood/tensor/tensor.h"

namespace brood {

// A tensor to be written: `data` must stay valid until write_safetensors returns.
struct TensorToWrite {
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;
  const void* data;
};
// Writes to `path` directly (save_model puts it in place atomically) and fsyncs it.
void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata);

struct StoredTensor {
  std::string dtype;  // "F32", "BF16", "F16", "I64", ...
  std::vector<int64_t> shape;
  const std::byte* data;  // into the map
  int64_t bytes;
  int64_t size() const;  // elements
};

// A file mapped into memory. Movable. Throws Error.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::string& path);
  // Parses memory; the caller keeps it alive. `name` begins messages. This is what the fuzzer feeds.
  static SafetensorsFile parse(std::span<const std::byte> bytes, const std::string& name);

  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const StoredTensor* find(const std::string& name) const;
  // Elements as f32 (from F32, BF16, F16, F64); throws Error on another type or count.
  void read_f32(const std::string& name, std::span<float> to) const;

 private:
  std::string name_;
  std::shared_ptr<const void> mapping_;
  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace brood
