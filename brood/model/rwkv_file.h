// The files of rwkv.cpp (docs/rwkv.md): a header of six numbers and one tensor after the other, with the names of
// the checkpoints of RWKV's authors. Reading believes nothing: every length, shape and name is checked against
// the file's own size first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace brood {

class RwkvFile {
 public:
  struct Tensor {
    bool half;                   // F16, else F32
    std::vector<int64_t> shape;  // as in PyTorch; [D, in] of a map to D channels
    const std::byte* data;       // not aligned
    int64_t size;                // numbers
  };

  // Throws Error: cut short, damaged, of another version, or quantised.
  static RwkvFile open(const std::string& path);
  // Parses memory; the caller keeps it alive. `name` begins messages. This is what the fuzzer feeds.
  static RwkvFile parse(std::span<const std::byte> bytes, const std::string& name);
  // Whether a file of this name begins as such a file does; false when it cannot be read.
  static bool is_one(const std::string& path);

  const std::string& name() const { return name_; }
  int64_t vocab_size() const { return vocab_size_; }
  int64_t d_model() const { return d_model_; }
  int64_t n_layer() const { return n_layer_; }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  const Tensor* find(const std::string& name) const;
  const Tensor& need(const std::string& name) const;  // throws Error
  // Numbers [first, first + to.size()). Throws Error: no such tensor, fewer numbers, a NaN or an infinity.
  void read(const std::string& name, std::span<float> to, int64_t first = 0) const;

  // The configuration of the model whose weights these are: RWKV-4 or RWKV-7. Throws Error: another version of
  // RWKV, shapes that do not fit together.
  nlohmann::json config() const;

 private:
  std::string name_;
  std::shared_ptr<const void> mapping_;
  int64_t vocab_size_ = 0, d_model_ = 0, n_layer_ = 0;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace brood
