#include "brood/tensor/tensor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

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

// Fresh from the system: its pages read as zero and take no memory before they are written.
std::shared_ptr<void> map_zeros(size_t bytes) {
  const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage, spare = kHugePage;
  void* const mapped =
      ::mmap(nullptr, rounded + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  auto* const begin = static_cast<std::byte*>(mapped);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (before > 0) ::munmap(begin, before);
  ::munmap(begin + before + rounded, spare - before);
  ::madvise(begin + before, rounded, MADV_HUGEPAGE);
  return std::shared_ptr<void>(begin + before, [rounded](void* p) { ::munmap(p, rounded); });
}

}  // namespace

int64_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return 4;
    case Dtype::kBf16:
      return 2;
  }
  return 0;
}

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return "F32";
    case Dtype::kBf16:
      return "BF16";
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
  return Tensor(allocate(size_t(shape.size() * size_of(dtype))), shape, dtype);
}

Tensor Tensor::zeros(const Shape& shape, Dtype dtype) {
  const size_t bytes = size_t(shape.size() * size_of(dtype));
  if (bytes >= kHugePage) return Tensor(map_zeros(bytes), shape, dtype);
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
