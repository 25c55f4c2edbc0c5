#include "brood/learn/nucleotide_file.h"

#include <cstring>

#include "brood/base/crc32.h"
#include "brood/base/error.h"
#include "brood/base/file.h"

namespace brood {
namespace {

constexpr std::string_view kMagic = "BRNA";
constexpr int64_t kFormat = 1;

uint32_t check_of(std::span<const std::byte> bytes) {
  return crc32({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

void archive_head(Archive& archive, int64_t& log2_slots) {
  std::string magic(kMagic);
  int64_t format = kFormat;
  archive.text(magic, kMagic.size());
  if (magic != kMagic) archive.refuse("it holds nothing that was learnt of DNA");
  archive.whole(format, kFormat, kFormat);
  archive.whole(log2_slots, kLeastNucleotideSlots, kMostNucleotideSlots);
}

}  // namespace

void write_nucleotides(const std::string& path, NucleotideLearner& learner, FileSystem& files) {
  Archive archive;
  int64_t log2_slots = learner.settings().log2_slots;
  archive_head(archive, log2_slots);
  learner.archive(archive);
  std::vector<std::byte> bytes = archive.take();
  const uint32_t check = check_of(bytes);
  for (int i = 0; i < 4; ++i) bytes.push_back(std::byte(check >> 8 * i));
  write_durably(files, path, bytes);
}

std::unique_ptr<NucleotideLearner> parse_nucleotides(std::span<const std::byte> bytes,
                                                     const std::string& name) {
  constexpr size_t kCheckBytes = 4;
  if (bytes.size() < kCheckBytes) fail("reading {}: it is too short for what was learnt of DNA", name);
  const auto body = bytes.first(bytes.size() - kCheckBytes);
  Archive archive(body, name);
  int64_t log2_slots = 0;
  archive_head(archive, log2_slots);
  archive.expect(NucleotideLearner::least_bytes(int(log2_slots)));  // before memory is taken
  uint32_t check = 0;
  for (size_t i = 0; i < kCheckBytes; ++i) check |= uint32_t(bytes[body.size() + i]) << 8 * i;
  if (check != check_of(body)) archive.refuse("its check is another");
  auto learner = std::make_unique<NucleotideLearner>(NucleotideSettings{.log2_slots = int(log2_slots)});
  learner->archive(archive);
  archive.end();
  return learner;
}

std::unique_ptr<NucleotideLearner> read_nucleotides(const std::string& path) {
  return parse_nucleotides(MappedFile::open(path).bytes(), path);
}

}  // namespace brood
