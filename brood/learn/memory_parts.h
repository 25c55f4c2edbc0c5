// The numbers that a memory consists of, by name: one list serves to write it, to read it and to check it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace brood {

struct MemoryPart {
  enum class Type { kU8, kU32, kU64, kF32 };
  std::string name;
  Type type;
  void* data;  // belongs to the memory
  size_t count;
  size_t element_bytes() const { return type == Type::kU8 ? 1 : type == Type::kU64 ? 8 : 4; }
  size_t bytes() const { return count * element_bytes(); }
};
using MemoryParts = std::vector<MemoryPart>;

}  // namespace brood
