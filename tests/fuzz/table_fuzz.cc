// Any bytes as a table, in any pieces: rows of as many numbers as there are columns, the same whatever the
// pieces are, or an Error.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "brood/base/error.h"
#include "brood/senses/table.h"

namespace {

using namespace brood;

struct Seen {
  std::vector<double> numbers;
  std::vector<int64_t> lines;
};

std::optional<Seen> read(std::span<const uint8_t> bytes, size_t piece) {
  Seen seen;
  TableReader reader({{}, "", ""}, [&](const RejectedRow& row) {
    BROOD_ASSERT(!row.reason.empty() && row.text.size() <= 1024);
    seen.lines.push_back(-row.line);
  });
  TableRow row;
  const auto take = [&] {
    while (reader.next(row)) {
      BROOD_ASSERT(row.values.size() == reader.columns().size());
      seen.lines.push_back(row.line);
      for (const double x : row.values) {
        BROOD_ASSERT(std::isnan(x) || std::abs(x) <= kLargestValue);
        seen.numbers.push_back(std::isnan(x) ? 0 : x);
      }
    }
  };
  try {
    for (size_t at = 0; at < bytes.size(); at += piece) {
      reader.feed(bytes.subspan(at, std::min(piece, bytes.size() - at)));
      take();
    }
    reader.finish();
    take();
  } catch (const Error&) {
    return std::nullopt;
  }
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(data, size);
  const auto whole = read(bytes, size + 1), pieces = read(bytes, 7);
  BROOD_ASSERT(whole.has_value() == pieces.has_value());
  if (whole) BROOD_ASSERT(whole->lines == pieces->lines && whole->numbers == pieces->numbers);
  return 0;
}
