// Any bytes as a segment of a journal: whole records, or an end. Behind a header, and as one of the journal's own
// records, so that the fuzzer gets past the checks.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "brood/base/crc32.h"
#include "brood/base/error.h"
#include "brood/base/journal.h"

namespace {

using namespace brood;

// Reads all of it and says how many records there were.
int64_t walk(std::span<const uint8_t> bytes) {
  JournalSegment segment(bytes);
  int64_t n = 0, end = 0, total = 0;
  while (const auto record = segment.next()) {
    ++n;
    BROOD_ASSERT(record->position >= end && int64_t(record->bytes.size()) <= kMostJournalRecord);
    BROOD_ASSERT(record->bytes.empty() ||
                 (record->bytes.data() >= bytes.data() &&
                  record->bytes.data() + record->bytes.size() <= bytes.data() + bytes.size()));
    end = record->position;
    total += int64_t(record->bytes.size());
  }
  BROOD_ASSERT(total + segment.rest() <= int64_t(bytes.size()));
  return n;
}

void put(std::vector<uint8_t>& to, uint64_t number, int bytes) {
  for (int i = 0; i < bytes; ++i) to.push_back(uint8_t(number >> (8 * i)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  walk({data, size});
  std::vector<uint8_t> headed{'B', 'R', 'J', 'L'};
  put(headed, 1, 4);
  put(headed, 0, 8);
  put(headed, crc32(headed), 4);
  const size_t header = headed.size();
  headed.insert(headed.end(), data, data + size);
  walk(headed);
  if (size < 13 || size > 65536) return 0;
  headed.resize(header);
  const std::vector<uint8_t> stream(8);
  put(headed, crc32({data, size}, crc32(stream)), 4);
  headed.insert(headed.end(), data, data + size);
  walk(headed);
  return 0;
}
