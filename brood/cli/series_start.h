// With what `brood live --as series` begins: nothing learnt, a series to go on with, or the very run that the same command
// began before and that was cut off.
#pragma once

#include <memory>

#include "brood/cli/series_run.h"
#include "brood/learn/series_file.h"

namespace brood::cli {

struct SeriesBeginning {
  std::unique_ptr<FileLock> alone;  // nobody else goes on with what --save holds; may be null
  // kept.stream: always there; of a run that may be gone on with source and all, else with nothing but begun_with.
  KeptSeries kept;
};

// Throws Error, also when --save would replace another series or a model of bytes.
SeriesBeginning begin_series(const SeriesOptions& options);

}  // namespace brood::cli
