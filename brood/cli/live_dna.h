// brood live --as dna: bases, each predicted before it is learnt.
#pragma once

#include <string>

#include "brood/cli/verb.h"

namespace brood::cli {

struct DnaStream {
  std::string in = "-", model, save;  // model: a folder to go on from; empty: begin anew
  bool overwrite = false;
  double save_every = 60;
  int64_t megabytes = 128;  // of the large tables; a power of two
  int64_t window = 1000;    // bases that a row of `out` and a point of `page` are about
  std::string out, page;    // empty: none
};

// Returns the exit code. Throws Error.
int live_on_dna(const DnaStream& stream, const Common& common);

}  // namespace brood::cli
