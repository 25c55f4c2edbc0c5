// Any bytes as a saved series: refused with an Error, or one that, written again, is the same bytes, and goes
// on. The check sum is mended first, or nothing would get past it.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "brood/base/crc32.h"
#include "brood/base/error.h"
#include "brood/learn/series_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brood;
  std::vector<uint8_t> bytes(data, data + size);
  const uint32_t crc = crc32(bytes);
  for (int shift = 0; shift < 32; shift += 8) bytes.push_back(uint8_t(crc >> shift));
  try {
    KeptSeries kept = parse_series(std::as_bytes(std::span(bytes)), "series");
    const std::vector<std::byte> again = series_bytes(kept);
    BROOD_ASSERT(again.size() == bytes.size() && std::memcmp(again.data(), bytes.data(), bytes.size()) == 0);
    std::vector<double> row(kept.columns.size(), 1.5);
    for (int i = 0; i < 3; ++i) {
      if (kept.forecasts) kept.forecasts->observe(row, 1);
      if (kept.forecasts && kept.stream && kept.stream->plot)
        kept.stream->plot->add(kept.forecasts->rows() - 1, row, kept.forecasts->reports());
      if (kept.classes) kept.classes->observe(row, i == 0 ? "a" : "b");
    }
  } catch (const Error&) {
  }
  return 0;
}
