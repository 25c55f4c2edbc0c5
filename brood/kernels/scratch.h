// Memory that one thread keeps between calls: it grows to the largest request and stays, so warm calls
// allocate nothing. Use as `thread_local Scratch`; a pointer is good until the next call of get().
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace brood::kernels {

class Scratch {
 public:
  template <class T>
  T* get(int64_t n) {
    const size_t bytes = (size_t(n) * sizeof(T) + 63) / 64 * 64;
    if (bytes > size_) {
      memory_.reset();
      memory_.reset(std::aligned_alloc(64, bytes));
      if (!memory_) throw std::bad_alloc();
      size_ = bytes;
    }
    return static_cast<T*>(memory_.get());
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> memory_;
  size_t size_ = 0;
};

}  // namespace brood::kernels
