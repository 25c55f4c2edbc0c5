// Arena: memory for one step. Allocation is a pointer bump; reset() takes everything back at once and keeps
// the memory, so that a warm step allocates nothing from the system. Not thread-safe: allocate before
// entering a parallel region.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace brood {

class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* allocate(size_t bytes);  // 64-byte aligned, uninitialised
  template <class T>
  T* allocate_array(int64_t n) {
    return static_cast<T*>(allocate(size_t(n) * sizeof(T)));
  }
  float* floats(int64_t n) { return allocate_array<float>(n); }
  float* zeros(int64_t n);

  // What was handed out after mark() is taken back by release(); the memory is kept for what comes next. A
  // pass that records nothing releases each layer's memory at once, and stays in cache.
  struct Mark {
    size_t block = 0, offset = 0, full = 0;
  };
  Mark mark() const { return {current_, offset_, full_}; }
  void release(const Mark& mark);

  // Everything handed out since the last reset becomes invalid. If the step overflowed into several blocks,
  // they are merged into one of the whole size, so the next step of the same shape runs in one block.
  void reset();

  size_t used() const;      // bytes handed out since reset()
  size_t capacity() const;  // bytes held

 private:
  struct Block {
    std::shared_ptr<std::byte> memory;
    size_t size = 0;
  };
  void add_block(size_t bytes);
  std::vector<Block> blocks_;
  size_t current_ = 0;  // the block that is being handed out
  size_t offset_ = 0;   // in it
  size_t full_ = 0;     // bytes handed out from earlier blocks
};

}  // namespace brood
