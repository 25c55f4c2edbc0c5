// What was learnt of DNA, as one file: "BRNA", the format, the size of its tables, the tables, a CRC-32 of all that.
#pragma once

#include <memory>
#include <string>

#include "brood/base/file_system.h"
#include "brood/learn/nucleotide_learner.h"

namespace brood {

constexpr int kLeastNucleotideSlots = 16, kMostNucleotideSlots = 31;  // log2

std::string nucleotide_file(const std::string& folder);
bool holds_nucleotides(const std::string& folder);

// A kill leaves the old file or the new. Throws Error.
void write_nucleotides(const std::string& path, NucleotideLearner& learner,
                       FileSystem& files = FileSystem::real());
// Throws Error: what the system says, or bytes that are no such file.
std::unique_ptr<NucleotideLearner> read_nucleotides(const std::string& path);
std::unique_ptr<NucleotideLearner> parse_nucleotides(std::span<const std::byte> bytes,
                                                     const std::string& name);

}  // namespace brood
