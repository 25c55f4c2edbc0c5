// The options of learning live, shared by the verbs that do it.
#pragma once

#include "brood/learn/live.h"

namespace CLI {
class App;
}

namespace brood::cli {

void add_live_options(CLI::App& app, LiveSettings& settings);

}  // namespace brood::cli
