#include "brood/learn/nucleotide_file.h"

#include <filesystem>

#include "brood/base/file.h"

namespace brood {
namespace {

constexpr std::string_view kMagic = "BRNA";
constexpr int64_t kFormat = 1;

void archive_head(Archive& archive, int64_t& log2_slots) {
  std::string magic(kMagic);
  int64_t format = kFormat;
  archive.text(magic, kMagic.size());
  if (magic != kMagic) archive.refuse("it holds nothing that was learnt of DNA");
  archive.whole(format, kFormat, kFormat);
  archive.whole(log2_slots, kLeastNucleotideSlots, kMostNucleotideSlots);
}

}  // namespace

std::string nucleotide_file(const std::string& folder) {
  return (std::filesystem::path(folder) / "dna.brood").string();
}

bool holds_nucleotides(const std::string& folder) {
  return !folder.empty() && std::filesystem::exists(nucleotide_file(folder));
}

void write_nucleotides(const std::string& path, NucleotideLearner& learner, FileSystem& files) {
  Archive archive;
  int64_t log2_slots = learner.settings().log2_slots;
  archive_head(archive, log2_slots);
  learner.archive(archive);
  write_durably(files, path, archive.take_checked());
}

std::unique_ptr<NucleotideLearner> parse_nucleotides(std::span<const std::byte> bytes,
                                                     const std::string& name) {
  Archive archive(Archive::checked(bytes, name), name);
  int64_t log2_slots = 0;
  archive_head(archive, log2_slots);
  archive.expect(NucleotideLearner::least_bytes(int(log2_slots)));  // before memory is taken
  auto learner = std::make_unique<NucleotideLearner>(NucleotideSettings{.log2_slots = int(log2_slots)});
  learner->archive(archive);
  archive.end();
  return learner;
}

std::unique_ptr<NucleotideLearner> read_nucleotides(const std::string& path) {
  return parse_nucleotides(MappedFile::open(path).bytes(), path);
}

}  // namespace brood
