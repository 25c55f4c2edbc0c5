// The safetensors format (docs/formats/safetensors.md): 8 bytes of header length, a JSON header, raw tensors.
// Reading believes nothing: every length, offset, shape and type is checked against the file's own size
// first.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "brood/base/file_system.h"
#include "brood/tensor/tensor.h"

namespace brood {

// A tensor to be written: `data` must stay valid until write_safetensors returns.
struct TensorToWrite {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<int64_t> shape;  // as it shall stand in the file
  const void* data;
  bool swapped = false;  // data holds the last two extents of `shape` in the other order; F32 only
  // Of a type that no tensor of a model has, "U8", "U32", "U64": in place of dtype, its name and its size.
  const char* type = nullptr;
  int64_t element_bytes = 0;
};
// Writes to `path` (put aside for an atomic save: base/directory_update.h) and syncs it. Tensors are laid out
// widest type first, so each is aligned to its type. Throws Error.
void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata,
                       FileSystem& files = FileSystem::real());
// The same for tensors that are never in memory as a whole: writes the header alone (`data` is not looked
// at). The caller appends the numbers of each tensor, in the order given, which must be widest type first;
// then syncs and closes.
std::unique_ptr<WritableFile> begin_safetensors(const std::string& path,
                                                std::span<const TensorToWrite> tensors,
                                                const std::map<std::string, std::string>& metadata,
                                                FileSystem& files = FileSystem::real());

struct StoredTensor {
  std::string dtype;  // "F32", "BF16", "F16", "I64", ...
  std::vector<int64_t> shape;
  const std::byte* data;  // into the map; not aligned in every file
  int64_t bytes;
  int64_t size() const;  // elements
};

// A file mapped into memory. Copies share the map. Throws Error.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::string& path);
  // Parses memory; the caller keeps it alive. `name` begins messages. This is what the fuzzer feeds.
  static SafetensorsFile parse(std::span<const std::byte> bytes, const std::string& name);

  const std::string& name() const { return name_; }
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const StoredTensor* find(const std::string& name) const;
  // Elements [first, first + to.size()) as f32 (from F32, BF16, F16, F64). Throws Error: no such tensor,
  // another type, elements beyond its end, a NaN or an infinity (also a F64 beyond f32's range).
  void read_f32(const std::string& name, std::span<float> to, int64_t first = 0) const;

 private:
  std::string name_;
  std::shared_ptr<const void> mapping_;
  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace brood
