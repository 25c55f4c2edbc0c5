// brood live --as dna: bases, each predicted before it is learnt.
#pragma once

#include <cstdint>
#include <memory>

#include "brood/cli/live_series.h"

namespace brood::cli {

// The option of --as dna alone, and what is done.
class DnaVerb {
 public:
  explicit DnaVerb(CLI::App& app);
  bool wanted(const SeriesVerb& series) const;  // after parsing
  int run(const LiveOptions& live, const SeriesVerb& series, const Common& common) const;

 private:
  CLI::App& app_;
  std::shared_ptr<int64_t> window_;
};

}  // namespace brood::cli
