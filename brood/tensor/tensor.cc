#include "brood/tensor/tensor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace brood {

namespace {

constexpr size_t kAlign = 64;
constexpr size_t kHugePage = size_t(2) << 20;

std::shared_ptr<void> allocate(size_t bytes) {
  const size_t align = bytes >= kHugePage ? kHugePage : kAlign;
  const size_t rounded = (std::max<size_t>(bytes, 1) + align - 1) / align * align;
  void* p = std::aligned_alloc(align, rounded);
  if (!p) throw std::bad_alloc();
  if (align == kHugePage) madvise(p, rounded, MADV_HUGEPAGE);  // a hint; failure is harmless
  return std::shared_ptr<void>(p, std::free);
}

}  // namespace

int64_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return 4;
    case Dtype::kBf16:
      return 2;
    case Dtype::kI8:
      return 1;
  }
  return 0;
}

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return "F32";
    case Dtype::kBf16:
      return "BF16";
    case Dtype::kI8:
      return "I8";
  }
  return "?";
}

Shape::Shape(std::span<const int64_t> extents) : rank_(int(extents.size())) {
  BROOD_ASSERT(rank_ <= kMaxRank);
  for (int i = 0; i < rank_; ++i) extent_[size_t(i)] = extents[size_t(i)];
}

int64_t Shape::size() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= extent_[size_t(i)];
  return n;
}

std::string Shape::text() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += fmt::format("{}{}", i ? ", " : "", extent_[size_t(i)]);
  return s + "]";
}

Tensor Tensor::uninitialized(const Shape& shape, Dtype dtype) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.memory_ = allocate(size_t(shape.size() * size_of(dtype)));
  return t;
}

Tensor Tensor::zeros(const Shape& shape, Dtype dtype) {
  Tensor t = uninitialized(shape, dtype);
  t.fill_zero();
  return t;
}

Tensor Tensor::clone() const {
  if (empty()) return {};
  Tensor t = uninitialized(shape_, dtype_);
  std::memcpy(t.data(), data(), size_t(bytes()));
  return t;
}

void Tensor::fill_zero() {
  if (!empty()) std::memset(data(), 0, size_t(bytes()));
}

}  // namespace brood
