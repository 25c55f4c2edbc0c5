// Any bytes as a file of rwkv.cpp: read, or refused with an Error. Every number that is promised is touched, so
// that a promise beyond the file shows; a configuration is no larger than what the file holds.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "brood/base/error.h"
#include "brood/model/rwkv_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brood;
  try {
    const RwkvFile file = RwkvFile::parse(std::as_bytes(std::span(data, size)), "fuzz");
    int64_t described = 0;
    for (const auto& [name, tensor] : file.tensors()) {
      described += tensor.size;
      BROOD_ASSERT(described <= int64_t(size) / 2);
      std::vector<float> values(size_t(tensor.size));
      try {
        file.read(name, values);
      } catch (const Error&) {  // not finite
      }
    }
    const nlohmann::json config = file.config();
    const auto of = [&](const char* key) { return config.at(key).get<int64_t>(); };
    BROOD_ASSERT(of("n_layer") * of("d_model") * (of("d_model") + of("d_ff")) <= described);
    BROOD_ASSERT(of("vocab_size") * of("d_model") <= described);
  } catch (const Error&) {
  }
  return 0;
}
