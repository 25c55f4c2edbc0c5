// A verb of the program: `brood live`, `brood train`, ... Each has a file of its own that defines its options
// and says what to do with them.
#pragma once

#include <cstdint>
#include <functional>

namespace CLI {
class App;
}

namespace brood::cli {

// Options that every verb has.
struct Common {
  int threads = 0;  // 0: the pool's own choice
  uint64_t seed = 0;
  bool json = false;
};

// What a verb does once its options are read; returns the exit code.
using Action = std::function<int()>;

// Adds a verb's options, examples and checks to `app`. `common` is filled in by the time that the action
// runs.
using Define = Action (*)(CLI::App& app, const Common& common);

Action define_compare(CLI::App& app, const Common& common);
Action define_live(CLI::App& app, const Common& common);
Action define_train(CLI::App& app, const Common& common);
Action define_eval(CLI::App& app, const Common& common);
Action define_talk(CLI::App& app, const Common& common);
Action define_speed(CLI::App& app, const Common& common);
Action define_tasks(CLI::App& app, const Common& common);
Action define_merge(CLI::App& app, const Common& common);
Action define_state(CLI::App& app, const Common& common);
Action define_pack(CLI::App& app, const Common& common);
Action define_unpack(CLI::App& app, const Common& common);
Action define_info(CLI::App& app, const Common& common);

// Exit codes: what was asked for cannot be, and what was asked for went wrong (base/error.h).
constexpr int kUserError = 2, kFailure = 1;

}  // namespace brood::cli
