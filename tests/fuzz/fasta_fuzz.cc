// DNA as text, in portions of any size: refused with an Error, or the same whatever the portions.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "brood/base/error.h"
#include "brood/senses/fasta.h"

namespace {

using namespace brood;

struct Heard final : FastaSink {
  std::string all;
  void begin_sequence(const std::string& name) override { all += ">" + name; }
  void base(int base) override { all += char(base); }
  void unknown() override { all += '?'; }
};

std::string heard(std::span<const uint8_t> bytes, size_t at_once) {
  Heard sink;
  FastaReader reader("input");
  try {
    for (; !bytes.empty(); bytes = bytes.subspan(std::min(at_once, bytes.size())))
      reader.read(bytes.first(std::min(at_once, bytes.size())), sink);
    reader.finish(sink);
  } catch (const Error& error) {
    sink.all += error.what();
  }
  return sink.all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  BROOD_ASSERT(heard(bytes, size + 1) == heard(bytes, 1 + size / 3));
  return 0;
}
