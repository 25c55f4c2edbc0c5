// One run of brood live --as series: rows are forecast, learnt and told of as they come; saved on the way, and gone on with
// after a kill (docs/exactly-once.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "brood/cli/verb.h"
#include "brood/learn/class_learner.h"
#include "brood/learn/series.h"

namespace brood::cli {

struct SeriesOptions {
  std::string in = "-", model, save;  // model: a folder to go on from; empty: begin anew
  bool overwrite = false, again = false;
  double save_every = 60, sync_every = 1;

  std::vector<std::string> columns;
  std::string time, label, out, page, rejects;
  int64_t warm_up = 0;
  SeriesSettings series;
  ClassSettings classes;
};

// Returns the exit code. Throws Error.
int live_on_series(const SeriesOptions& options, const Common& common);

}  // namespace brood::cli
