// The options of learning live, shared by the verbs that do it.
#pragma once

#include "brood/learn/live.h"

namespace CLI {
class App;
}

namespace brood::cli {

void add_live_options(CLI::App& app, LiveSettings& settings);

// The same settings with no chunk longer than a model with a window of attention can see.
LiveSettings fitted(LiveSettings settings, const Model& model);

}  // namespace brood::cli
