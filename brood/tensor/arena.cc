#include "brood/tensor/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace brood {

namespace {
constexpr size_t kAlign = 64;
constexpr size_t kBlock = size_t(2) << 20;  // a huge page
}  // namespace

void* Arena::allocate(size_t bytes) {
  const size_t rounded = (bytes + kAlign - 1) / kAlign * kAlign;
  while (current_ < blocks_.size() && offset_ + rounded > blocks_[current_].size) {
    full_ += offset_;
    offset_ = 0;
    ++current_;
  }
  if (current_ == blocks_.size()) add_block(rounded);
  std::byte* p = blocks_[current_].memory.get() + offset_;
  offset_ += rounded;
  return p;
}

float* Arena::zeros(int64_t n) {
  float* p = floats(n);
  std::memset(p, 0, size_t(n) * sizeof(float));
  return p;
}

void Arena::add_block(size_t bytes) {
  // Grow geometrically so that a long first step needs few blocks.
  const size_t wanted = std::max({bytes, kBlock, capacity() / 2});
  const size_t size = (wanted + kBlock - 1) / kBlock * kBlock;
  void* p = std::aligned_alloc(kBlock, size);
  if (!p) throw std::bad_alloc();
  madvise(p, size, MADV_HUGEPAGE);
  blocks_.push_back({std::shared_ptr<std::byte>(static_cast<std::byte*>(p), std::free), size});
}

void Arena::reset() {
  if (blocks_.size() > 1) {
    const size_t total = capacity();
    blocks_.clear();
    add_block(total);
  }
  current_ = offset_ = full_ = 0;
}

void Arena::release(const Mark& mark) {
  current_ = mark.block;
  offset_ = mark.offset;
  full_ = mark.full;
}

size_t Arena::used() const { return full_ + offset_; }

size_t Arena::capacity() const {
  size_t total = 0;
  for (const Block& b : blocks_) total += b.size;
  return total;
}

}  // namespace brood
