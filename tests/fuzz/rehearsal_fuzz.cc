// A sample of the distant past with any of its numbers changed: refused with an Error, or a sample that goes on and whose
// tokens are tokens. The fuzzer's bytes are changes to a file that is right (where, and four bytes to stand there), or
// nothing would get past the sizes; without the first byte's bit they are the file itself.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "brood/base/error.h"
#include "brood/learn/reservoir.h"
#include "brood/model/safetensors.h"
#include "tests/fixture/memory_file_system.h"

namespace {

using namespace brood;

constexpr int64_t kVocabulary = 17, kCapacity = 3 * Reservoir::kBlock;

std::string a_file() {
  Reservoir reservoir(kCapacity, 1);
  for (int32_t i = 0; i < 5 * Reservoir::kBlock + 7; ++i) {
    const int32_t token = i % kVocabulary;
    reservoir.add({&token, 1});
  }
  MemoryFileSystem files;
  reservoir.writer()("rehearsal", "save", files);
  return files.read("rehearsal");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string right = a_file();
  static std::string bytes;
  if (size == 0) return 0;
  if (data[0] & 1) {
    bytes = right;
    for (size_t i = 1; i + 8 <= size; i += 8) {
      uint32_t where = 0;
      std::memcpy(&where, data + i, sizeof where);
      std::memcpy(bytes.data() + where % (bytes.size() - 3), data + i + 4, 4);
    }
  } else {
    bytes.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
  }
  Reservoir reservoir(kCapacity, 1);
  try {
    reservoir.read(SafetensorsFile::parse(std::as_bytes(std::span(bytes)), "rehearsal"), kVocabulary);
  } catch (const Error&) {
    BROOD_ASSERT(reservoir.blocks() == 0 && reservoir.given() == 0);
  }
  reservoir.add(std::vector<int32_t>(size_t(2 * Reservoir::kBlock), 3));
  BROOD_ASSERT(reservoir.blocks() > 0 && reservoir.blocks() <= kCapacity / Reservoir::kBlock);
  for (int64_t i = 0; i < reservoir.blocks(); ++i)
    for (const int32_t token : reservoir.block(i)) BROOD_ASSERT(0 <= token && token < kVocabulary);
  return 0;
}
