// brood live on a stream of bytes: predict, score, learn; saved on the way, and gone on with after a kill
// (docs/exactly-once.md).
#pragma once

#include "brood/cli/live_start.h"
#include "brood/cli/verb.h"
#include "brood/learn/guarded.h"

namespace brood::cli {

struct LiveOptions {
  LiveStart start;
  double save_every = 60, sync_every = 1;
  bool again = false;
  GuardSettings guard;
  LiveSettings live;
};

// Returns the exit code. Throws Error.
int live_on_bytes(const LiveOptions& options, const Common& common);

}  // namespace brood::cli
