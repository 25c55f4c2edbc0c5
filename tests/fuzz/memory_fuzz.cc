// A memory's file with any of its numbers changed: refused with an Error, or a memory that goes on and whose
// probabilities are probabilities. The fuzzer's bytes are changes to a file that is right (where, and four bytes to stand
// there), or nothing would get past the sizes; without the first byte's bit they are the file itself.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "brood/base/error.h"
#include "brood/learn/episodic_memory.h"
#include "brood/model/safetensors.h"
#include "tests/fixture/memory_file_system.h"

namespace {

using namespace brood;

std::string a_file() {
  EpisodicMemory memory(EpisodicMemory::kLeast);
  for (int line = 0; line < 40; ++line)
    for (const char c : "key " + std::to_string(line % 7) + " -> value " + std::to_string(line % 5) + "\n")
      memory.see({}, uint8_t(c));
  MemoryFileSystem files;
  memory.writer()("memory", "save", files);
  return files.read("memory");
}

void go_on(EpisodicMemory& memory) {
  std::vector<float> p(256);
  for (const char c : std::string("key 3 -> ")) {
    const double nats = memory.see({}, uint8_t(c));
    BROOD_ASSERT(std::isfinite(nats) && nats >= 0);
    memory.distribution({}, p);
    const float sum = std::accumulate(p.begin(), p.end(), 0.0f);
    BROOD_ASSERT(std::abs(sum - 1) < 1e-2f);
  }
  const EpisodicMemory::Place place = memory.place();
  memory.hear('x');
  memory.take_back(place);
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
  try {
    const auto memory =
        EpisodicMemory::read(SafetensorsFile::parse(std::as_bytes(std::span(bytes)), "memory"), false);
    go_on(*memory);
  } catch (const Error&) {
  }
  return 0;
}
