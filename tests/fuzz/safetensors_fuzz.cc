// Any bytes as a safetensors file: read, or refused with an Error. Every tensor that is promised is touched
// from end to end, so that a promise beyond the file shows. And as a kept state.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "brood/base/error.h"
#include "brood/model/kept_state.h"
#include "brood/model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brood;
  try {
    const SafetensorsFile file = SafetensorsFile::parse(std::as_bytes(std::span(data, size)), "fuzz");
    int64_t described = 0;
    for (const auto& [name, tensor] : file.tensors()) {
      described += tensor.bytes;
      BROOD_ASSERT(described <= int64_t(size));
      BROOD_ASSERT(tensor.size() <= tensor.bytes);
      size_t sum = 0;
      for (int64_t i = 0; i < tensor.bytes; ++i) sum += size_t(tensor.data[i]);
      BROOD_ASSERT(sum <= 255 * size);
      std::vector<float> values(size_t(tensor.size()));
      try {
        file.read_f32(name, values);
      } catch (const Error&) {  // another type, or not finite
      }
    }
  } catch (const Error&) {
  }
  try {
    const KeptState kept = parse_kept_state(std::as_bytes(std::span(data, size)), "fuzz");
    BROOD_ASSERT(kept.state.bytes() <= int64_t(size) * 2);  // f32 from types half as wide
    for (const StateDifference& d : differences(kept.state, kept.state)) BROOD_ASSERT(d.changed == 0);
  } catch (const Error&) {
  }
  return 0;
}
