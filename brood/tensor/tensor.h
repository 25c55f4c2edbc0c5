// Tensor: a contiguous, row-major block of numbers with a shape. Copies share memory (reference counted);
// clone() copies. Memory is aligned to 64 bytes and, when large, asked for in huge pages. Not synchronised:
// readers may share a tensor between threads, a writer must be alone.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "brood/base/error.h"

namespace brood {

enum class Dtype : uint8_t { kF32, kBf16 };

int64_t size_of(Dtype dtype);      // bytes per element
const char* name_of(Dtype dtype);  // "F32", "BF16" (safetensors spelling)

// bfloat16: the upper half of an IEEE float. Round to nearest even; NaN stays NaN.
struct Bf16 {
  uint16_t bits = 0;
};
inline float to_float(Bf16 x) { return std::bit_cast<float>(uint32_t(x.bits) << 16); }
inline Bf16 to_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {uint16_t((u >> 16) | 0x40u)};
  return {uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

// Up to four extents. Shape{} has rank 0 and one element.
class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<int64_t> extents) : Shape(std::span(extents.begin(), extents.size())) {}
  explicit Shape(std::span<const int64_t> extents);

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return extent_[size_t(i)]; }
  int64_t size() const;  // number of elements
  bool operator==(const Shape&) const = default;
  std::string text() const;  // "[3, 256]"

 private:
  std::array<int64_t, kMaxRank> extent_{};
  int rank_ = 0;
};

class Tensor {
 public:
  Tensor() = default;  // empty: no memory, size 0
  // Large ones take no memory before they are written.
  static Tensor zeros(const Shape& shape, Dtype dtype = Dtype::kF32);
  static Tensor uninitialized(const Shape& shape, Dtype dtype = Dtype::kF32);

  bool empty() const { return !memory_; }
  const Shape& shape() const { return shape_; }
  Dtype dtype() const { return dtype_; }
  int64_t size() const { return empty() ? 0 : shape_.size(); }
  int64_t bytes() const { return size() * size_of(dtype_); }

  float* f32() {
    BROOD_ASSERT(dtype_ == Dtype::kF32);
    return static_cast<float*>(memory_.get());
  }
  const float* f32() const {
    BROOD_ASSERT(dtype_ == Dtype::kF32);
    return static_cast<const float*>(memory_.get());
  }
  Bf16* bf16() {
    BROOD_ASSERT(dtype_ == Dtype::kBf16);
    return static_cast<Bf16*>(memory_.get());
  }
  const Bf16* bf16() const {
    BROOD_ASSERT(dtype_ == Dtype::kBf16);
    return static_cast<const Bf16*>(memory_.get());
  }
  void* data() { return memory_.get(); }
  const void* data() const { return memory_.get(); }

  Tensor clone() const;
  void fill_zero();

 private:
  Tensor(std::shared_ptr<void> memory, const Shape& shape, Dtype dtype)
      : memory_(std::move(memory)), shape_(shape), dtype_(dtype) {}

  std::shared_ptr<void> memory_;
  Shape shape_;
  Dtype dtype_ = Dtype::kF32;
};

}  // namespace brood
