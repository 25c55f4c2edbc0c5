// The folder of --save, looked at before any work is done.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace brood::cli {

// The option --save, which an empty name is refused for: it would save nothing and not say so.
CLI::Option* add_save(CLI::App& app, std::string& folder, const char* purpose);

// Throws Error when `folder` holds a model that a save would replace by another one: `source` is what the
// model to be saved was loaded from, `go_on` the option that learns on with the model that is there. Throws
// also when nothing can be written there. An empty name, where --save was not given, is always right.
void check_save_folder(const std::string& folder, const std::string& source, bool overwrite,
                       const std::string& go_on);

}  // namespace brood::cli
